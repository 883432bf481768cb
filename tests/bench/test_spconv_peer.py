import ctypes
from pathlib import Path

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
    part, gap = difference(ours.read(ours.run()), theirs.read(theirs.run()))
    assert gap <= case.tolerance, part


def test_its_runtime_is_held_to_one_thread(spconv):
    runtimes = list((Path(spconv.__file__).parents[2] / "spconv.libs").glob("libgomp*"))
    if not runtimes:
        pytest.skip("this build of spconv brings no OpenMP runtime of its own")
    assert [ctypes.CDLL(str(path)).omp_get_max_threads() for path in runtimes] == [1]
