"""Ratios inside one run, with wide margins: a guard against slower kernels.

Processor time, ours and the yardstick in turns. What else runs on a machine can only make a share
smaller, so a guard holds if one of a few attempts shows it.
"""

import pytest

from sparseconv.backends import native_available
from sparseconv.bench.cases import CASES
from sparseconv.bench.measure import OURS, Row, measure
from sparseconv.bench.peers import choose
from sparseconv.bench.scenes import load_scene

ATTEMPTS = 4
CHANNELS = 64

pytestmark = pytest.mark.skipif(not native_available(), reason="needs the compiled module")


@pytest.fixture(scope="module")
def scene():
    return load_scene("street-20k")


def timed(scene, name, peers):
    case = CASES[name]
    problem = case.prepare(scene, CHANNELS, "small")
    row = Row(scene.name, name, case.title, CHANNELS, len(scene.coords), problem.flops)
    return measure(row, problem, case.kind, choose(peers), repeat=5, seconds=1, clock="cpu")


def best(scene, name, peer, least):
    """The greatest share found, looking no further once `least` is reached."""
    most = 0.0
    for _ in range(ATTEMPTS):
        most = max(most, timed(scene, name, peer).ratios[peer].median)
        if most >= least:
            break
    return most


# shares of the multiply-adds: some 0.7, 0.6 and 0.6 where this was written, with AVX-512
@pytest.mark.parametrize("name", ["conv", "input-gradient", "weight-gradient"])
def test_layers_come_near_the_peak(scene, name):
    assert best(scene, name, "fma", 0.3) >= 0.3


def test_a_layer_is_no_slower_than_a_dense_product(scene):
    assert best(scene, "conv", "mm", 0.8) >= 0.8


def test_a_rulebook_costs_less_than_the_layer_it_is_for(scene):
    ratios = []
    for _ in range(ATTEMPTS):
        book, layer = timed(scene, "rulebook", "none"), timed(scene, "conv", "none")
        ratios.append(layer.seconds[OURS].median / book.seconds[OURS].median)
        if ratios[-1] >= 1:
            break
    assert max(ratios) >= 1
