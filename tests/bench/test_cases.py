import pytest
import torch

from sparseconv.bench.cases import CASES
from sparseconv.bench.measure import difference
from sparseconv.bench.ours import JOBS, build_rulebook
from sparseconv.bench.peers import PEERS, choose
from sparseconv.bench.problem import by_site, ordered_pairs
from sparseconv.bench.scenes import load_scene


@pytest.fixture(scope="module")
def scene():
    return load_scene("sheet")


@pytest.mark.parametrize("name", CASES)
def test_two_runs_of_a_case_agree(scene, name):
    case = CASES[name]
    job = JOBS[case.kind](case.prepare(scene, 4, False))
    first = job.read(job.run())
    assert first
    assert difference(first, job.read(job.run()))[1] <= 1e-6


@pytest.mark.parametrize(
    ("name", "peer"), [("conv", "torch"), ("gradient", "torch"), ("voxelize", "numpy")]
)
def test_peers_without_a_package_agree(scene, name, peer):
    case = CASES[name]
    problem = case.prepare(scene, 4, False)
    ours, theirs = JOBS[case.kind](problem), PEERS[peer].jobs[case.kind](problem)
    _, gap = difference(ours.read(ours.run()), theirs.read(theirs.run()))
    assert gap <= case.tolerance


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_open3d_agrees(scene):
    pytest.importorskip("open3d")
    case = CASES["voxelize"]
    problem = case.prepare(scene, 4, False)
    ours, theirs = JOBS[case.kind](problem), PEERS["open3d"].jobs[case.kind](problem)
    _, gap = difference(ours.read(ours.run()), theirs.read(theirs.run()))
    assert gap <= case.tolerance


def test_operations_are_counted_by_pairs(scene):
    pairs = len(build_rulebook(scene.coords))
    assert CASES["conv"].prepare(scene, 4, False).flops == 2 * pairs * 4 * 4
    assert CASES["gradient"].prepare(scene, 4, False).flops == 3 * 2 * pairs * 4 * 4
    net = CASES["unet"].prepare(scene, 4, False)
    # the first convolution of the stem, on all pairs of the finest level
    assert net.products[0] == (pairs, 4, 16)
    assert all(0 < rows <= pairs for rows, _, _ in net.products)


def test_the_yardstick_does_all_products(scene, monkeypatch):
    done = []
    real = torch.mm

    def counted(a, b, *, out):
        done.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return real(a, b, out=out)

    problem = CASES["unet"].prepare(scene, 4, False)
    job = PEERS["mm"].jobs["unet"](problem)
    monkeypatch.setattr(torch, "mm", counted)
    job.run()
    assert sum(done) == problem.flops


def test_forms_do_not_depend_on_row_order():
    coords = torch.tensor([[0, 5, -2, 0], [0, 1, 7, 3], [0, 5, -2, -1]])
    features = torch.arange(6.0).reshape(3, 2)
    order = torch.tensor([2, 0, 1])
    a, b = by_site(coords, features), by_site(coords[order], features[order])
    assert difference(a, b)[1] == 0
    assert a["coords"].tolist() == sorted(coords.tolist())
    i, o, t = torch.tensor([0, 1, 2]), torch.tensor([2, 1, 0]), torch.tensor([0, 0, 1])
    pairs = ordered_pairs(i, o, t)
    assert torch.equal(pairs, ordered_pairs(i[order], o[order], t[order]))
    assert not torch.equal(pairs, ordered_pairs(o, i, t))


def test_choice_of_peers():
    assert [peer.name for peer in choose("mm, torch")] == ["mm", "torch"]
    assert choose("none") == []
    assert len(choose("all")) == len(PEERS)
