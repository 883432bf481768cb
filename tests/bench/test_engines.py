from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from sparseconv.bench.cases import CASES
from sparseconv.bench.engines import minkowski, open3d, sparseconvnet, spconv
from sparseconv.bench.measure import difference
from sparseconv.bench.ours import JOBS
from sparseconv.bench.peers import PEERS, choose
from sparseconv.bench.scenes import load_scene

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


ENGINES = {
    "spconv": spconv,
    "sparseconvnet": sparseconvnet,
    "minkowski": minkowski,
    "open3d-ml": open3d,
}


def jobs_of(name):
    peer = PEERS[name]
    if not peer.here:
        pytest.skip(f"{peer.package} cannot be imported here")
    return ENGINES[name].JOBS


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].kind in spconv.JOBS])
def test_the_same_weights_give_the_same_result(engine, name):
    jobs, case = jobs_of(engine), CASES[name]
    if case.kind not in jobs:
        pytest.skip("its rulebooks cannot be had alone")
    problem = case.prepare(load_scene("sheet"), 8, "small")
    ours, theirs = JOBS[case.kind](problem), jobs[case.kind](problem)
    if theirs is None:
        assert problem.layer.groups > 1 or problem.dtype == torch.bfloat16
        return
    expected, found = ours.read(ours.run()), theirs.read(theirs.run())
    parts = case.parts or expected
    part, gap = difference({n: expected[n] for n in parts}, {n: found[n] for n in parts})
    assert gap <= case.tolerance, part


@pytest.mark.parametrize("engine", ENGINES)
def test_a_kernel_of_three_sizes_comes_back_as_it_went(engine):
    jobs_of(engine)
    made = ENGINES[engine].engine()
    taps = torch.randn(3, 5, 7, 2, 4)
    assert torch.equal(made.unpack(made.pack(taps), (3, 5, 7)), taps)


def test_spconv_is_left_out_where_its_cells_have_more_numbers_than_32_bits():
    scene = load_scene("sheet")
    far = torch.tensor([[0, 2**13 - 1, 2**13 - 1, z] for z in (63, 64)], dtype=torch.int32)
    for corner, runs in zip(far, (True, False), strict=True):
        wide = replace(scene, coords=torch.cat([scene.coords, corner[None]]))
        problem = CASES["rulebook"].prepare(wide, 0, "small")
        assert (spconv.JOBS["rulebook"](problem) is not None) == runs


def test_the_slow_are_run_where_they_are_named():
    assert "open3d-ml" not in [peer.name for peer in choose("all")]
    assert [peer.name for peer in choose("open3d-ml,spconv")] == ["open3d-ml", "spconv"]


def test_what_cannot_be_imported_is_not_there():
    there = PEERS["spconv"]
    assert not replace(there, package="sparseconv_no_such_package").here
    assert replace(there, package="sparseconv_no_such_package.pytorch").fault == "missing"
    assert replace(there, package="json").here and not replace(there, package="json").fault


def test_what_is_there_and_does_not_import_says_why(monkeypatch, tmp_path):
    (tmp_path / "made_for_another_torch.py").write_text(
        'raise ImportError("undefined symbol:\\n  _ZN2at")'
    )
    (tmp_path / "in_want_of_another.py").write_text("import sparseconv_no_such_package")
    monkeypatch.syspath_prepend(str(tmp_path))
    peer = replace(PEERS["spconv"], package="made_for_another_torch")
    assert not peer.here
    assert peer.fault == "cannot be imported, ImportError: undefined symbol: _ZN2at"
    peer = replace(peer, package="in_want_of_another")
    assert peer.fault.startswith("cannot be imported, ModuleNotFoundError: No module named")


def test_its_scatter_gets_one_thread_and_its_products_all(monkeypatch):
    problem = CASES["gradient"].prepare(load_scene("sheet"), 8, "small")
    job = jobs_of("spconv")["gradient"](problem)
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
