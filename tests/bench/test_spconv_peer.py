from itertools import pairwise

import pytest
import torch

from sparseconv.bench import spconv_peer
from sparseconv.bench.cases import CASES
from sparseconv.bench.measure import difference
from sparseconv.bench.ours import JOBS
from sparseconv.bench.scenes import load_scene

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def spconv():
    pytest.importorskip("spconv", reason="needs spconv==2.3.8 beside the library")
    return spconv_peer.load()


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].kind in spconv_peer.JOBS])
def test_the_same_weights_give_the_same_result(name):
    case = CASES[name]
    problem = case.prepare(load_scene("sheet"), 8, "small")
    ours, theirs = JOBS[case.kind](problem), spconv_peer.JOBS[case.kind](problem)
    if theirs is None:
        assert problem.layer.groups > 1 or problem.dtype == torch.bfloat16
        return
    expected, found = ours.read(ours.run()), theirs.read(theirs.run())
    parts = case.parts or expected
    part, gap = difference({n: expected[n] for n in parts}, {n: found[n] for n in parts})
    assert gap <= case.tolerance, part


def test_its_scatter_gets_one_thread_and_its_products_all(monkeypatch):
    problem = CASES["gradient"].prepare(load_scene("sheet"), 8, "small")
    job = spconv_peer.JOBS["gradient"](problem)
    expected = job.read(job.run())
    torch.set_num_threads(2)
    steps, mm, set_threads = [], torch.mm, torch.set_num_threads
    monkeypatch.setattr(torch, "mm", lambda *a, **k: steps.append("mm") or mm(*a, **k))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: steps.append(n) or set_threads(n))
    found = job.read(job.run())
    assert torch.get_num_threads() == 2
    assert difference(expected, found)[1] <= 1e-5
    # the centre without a scatter; 26 taps of products, of one forward, of two backward
    assert steps[:4] == ["mm", "mm", 1, 2]
    assert steps.count("mm") == 27 * 3
    assert steps.count(1) == steps.count(2) == 26 * 2
    assert all(after == 2 for step, after in pairwise(steps) if step == 1)
