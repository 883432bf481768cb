import time

import pytest
import torch

from sparseconv.backends import native_available
from sparseconv.bench import own_cases, yardsticks
from sparseconv.bench.cases import CASES
from sparseconv.bench.measure import difference
from sparseconv.bench.net_cases import make_net, net_widths
from sparseconv.bench.ours import JOBS, build_rulebook
from sparseconv.bench.peers import PEERS, choose
from sparseconv.bench.problem import Problem, Product, by_site, ordered_pairs
from sparseconv.bench.scenes import load_scene


@pytest.fixture(scope="module")
def scene():
    return load_scene("sheet")


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].kind in JOBS])
def test_two_runs_of_a_case_agree(scene, name):
    case = CASES[name]
    job = JOBS[case.kind](case.prepare(scene, 4, "small"))
    first = job.read(job.run())
    assert first
    assert difference(first, job.read(job.run()))[1] <= 1e-6


@pytest.mark.parametrize(
    ("name", "peer"), [("conv", "torch"), ("gradient", "torch"), ("voxelize", "numpy")]
)
def test_peers_without_a_package_agree(scene, name, peer):
    case = CASES[name]
    problem = case.prepare(scene, 4, "small")
    ours, theirs = JOBS[case.kind](problem), PEERS[peer].jobs[case.kind](problem)
    _, gap = difference(ours.read(ours.run()), theirs.read(theirs.run()))
    assert gap <= case.tolerance


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_open3d_agrees(scene):
    pytest.importorskip("open3d")
    case = CASES["voxelize"]
    problem = case.prepare(scene, 4, "small")
    ours, theirs = JOBS[case.kind](problem), PEERS["open3d"].jobs[case.kind](problem)
    _, gap = difference(ours.read(ours.run()), theirs.read(theirs.run()))
    assert gap <= case.tolerance


def test_operations_are_counted_by_pairs(scene):
    pairs = len(build_rulebook(scene.coords))
    assert CASES["conv"].prepare(scene, 4, "small").flops == 2 * pairs * 4 * 4
    assert CASES["gradient"].prepare(scene, 4, "small").flops == 3 * 2 * pairs * 4 * 4
    net = CASES["unet"].prepare(scene, 4, "small")
    # the first convolution of the stem, on all pairs of the finest level
    assert net.products[0][:3] == (pairs, 4, 16)
    assert all(0 < rows <= pairs for rows, *_ in net.products)


def test_the_yardstick_does_all_products(scene, monkeypatch):
    done = []
    real = torch.mm

    def counted(a, b, *, out):
        done.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return real(a, b, out=out)

    problem = CASES["unet"].prepare(scene, 4, "small")
    job = PEERS["mm"].jobs["unet"](problem)
    monkeypatch.setattr(torch, "mm", counted)
    job.run()
    assert sum(done) == problem.flops


def test_products_torch_crawls_through_are_no_yardstick(scene, monkeypatch):
    real = torch.mm

    def crawling(a, b, **given):
        if a.dtype == torch.bfloat16:
            time.sleep(0.1)
        return real(a, b, **given)

    monkeypatch.setattr(torch, "mm", crawling)
    yardsticks.crawls.cache_clear()
    try:
        rounded = CASES["conv-bfloat16"].prepare(scene, 4, "small")
        assert rounded.dtype == torch.bfloat16 and yardsticks.products(rounded) is None
        assert yardsticks.products(CASES["conv"].prepare(scene, 4, "small")) is not None
    finally:
        yardsticks.crawls.cache_clear()


def own_ways():
    for name, case in CASES.items():
        for peer in case.beside:
            if peer.compares:
                yield pytest.param(name, peer, id=f"{name}-{peer.name}")


@pytest.mark.parametrize(("name", "peer"), list(own_ways()))
def test_ways_of_our_own_agree(scene, name, peer):
    case = CASES[name]
    problem = case.prepare(scene, 4, "small")
    ours, other = JOBS[case.kind](problem), peer.jobs[case.kind](problem)
    expected, found = ours.read(ours.run()), other.read(other.run())
    parts = case.parts or expected
    part, gap = difference({n: expected[n] for n in parts}, {n: found[n] for n in parts})
    assert gap <= case.tolerance, part
    # another dtype was really another dtype
    if "bfloat16" in name:
        assert gap > 1e-5


def test_every_peer_of_a_case_does_its_kind():
    assert all(case.kind in peer.jobs for case in CASES.values() for peer in case.beside)
    assert all(peer.own for case in CASES.values() for peer in case.beside)


def test_shuffled_rows_are_the_same_numbers_in_another_order(scene):
    problem, plain = (CASES[n].prepare(scene, 4, "small") for n in ("shuffled", "conv"))
    assert not torch.equal(problem.coords, plain.coords)
    a, b = by_site(problem.coords, problem.features), by_site(plain.coords, plain.features)
    assert difference(a, b)[1] == 0


def test_time_of_few_voxels_counts_as_that_of_many(monkeypatch, scene):
    case = CASES["scale"]
    monkeypatch.setattr(own_cases, "SMALLEST", "few")
    job = case.beside[0].jobs["scale"](case.prepare(scene, 4, "small"))
    assert job.part == len(load_scene("few").coords) / len(scene.coords)


def test_half_the_bytes_in_bfloat16(scene):
    for narrow, wide in (("conv-bfloat16", "conv"), ("unet-bfloat16", "unet")):
        a, b = (CASES[n].prepare(scene, 4, "small") for n in (narrow, wide))
        assert a.dtype == torch.bfloat16 and a.flops == b.flops
        assert 0.5 * b.bytes <= a.bytes + 1 < b.bytes


def test_nets_are_named_or_given_by_their_widths():
    assert net_widths(make_net("full")) == (
        "stem 32, down 32-64-128-256, up 256-128-96-96, 2 blocks a level"
    )
    assert net_widths(make_net("8,16,24")) == "stem 8, down 16, up 24, 2 blocks a level"
    for wrong in ("large", "8,16", "8", "8,0,8"):
        with pytest.raises(ValueError, match=r"^--net: expected small, full"):
            make_net(wrong)


def test_logits_come_from_the_features_and_not_from_the_last_bias(scene):
    problem = CASES["unet"].prepare(scene, 4, "small")
    job = JOBS["unet"](problem)
    logits = job.read(job.run())["logits"]
    assert logits.std(0).min() > 0.1 * logits.abs().max()


def test_gradients_alone_are_those_of_both(scene):
    both = JOBS["gradient"](CASES["gradient"].prepare(scene, 4, "small"))
    expected = both.read(both.run())
    for name, part in (("input-gradient", "dx"), ("weight-gradient", "dw")):
        problem = CASES[name].prepare(scene, 4, "small")
        job = JOBS[name](problem)
        assert difference({"gradient": expected[part]}, job.read(job.run()))[1] <= 1e-6
        assert problem.flops == CASES["conv"].prepare(scene, 4, "small").flops


def test_a_u_net_asks_for_nine_rulebooks(scene):
    problem = CASES["unet-rulebooks"].prepare(scene, 4, "small")
    job = JOBS["unet-rulebooks"](problem)
    found = job.read(job.run())
    assert len(found) == 9
    assert len(found["pairs 0"]) == len(build_rulebook(scene.coords))
    # each fine site has one pair with a coarse one
    assert len(found["pairs 1"]) == len(scene.coords)
    sites = len(torch.unique(scene.coords[:, 1:] // 2, dim=0))
    assert len(found["pairs 3"]) == sites
    mixed = CASES["unet-rulebooks-shuffled"].prepare(scene, 4, "small")
    again = JOBS["unet-rulebooks"](mixed)
    assert not torch.equal(mixed.coords, problem.coords)
    assert difference(found, again.read(again.run()))[1] == 0


def test_bytes_are_counted_once(scene):
    rows, pairs = len(scene.coords), len(build_rulebook(scene.coords))
    layer = 4 * (2 * rows * 4 + 27 * 16) + 8 * pairs
    assert CASES["conv"].prepare(scene, 4, "small").bytes == layer
    assert CASES["gradient"].prepare(scene, 4, "small").bytes == 3 * layer
    assert CASES["depthwise"].prepare(scene, 4, "small").bytes == layer - 4 * 27 * 12
    assert CASES["rulebook"].prepare(scene, 4, "small").bytes == 16 * rows + 8 * pairs


def test_a_floor_is_the_slower_of_arithmetic_and_memory_layer_by_layer():
    problem = Problem(
        None, None, None, products=(Product(10, 2, 5, 30), Product(1, 1, 1, 600)), passes=2
    )
    assert problem.flops == 2 * (200 + 2) and problem.bytes == 2 * 630
    assert problem.floor(100.0, 100.0) == 2 * (2.0 + 6.0)
    assert Problem(None, None, None, moved=50).floor(1.0, 100.0) == 0.5


@pytest.mark.skipif(not native_available(), reason="needs the compiled module")
def test_rooflines_stand_for_the_work_of_the_row(scene):
    problem = CASES["gradient"].prepare(scene, 4, "small")
    rates = {}
    for name, work in (("fma", problem.flops), ("copy", problem.bytes)):
        job = PEERS[name].jobs["gradient"](problem)
        begin = time.perf_counter()
        job.run()
        seconds = (time.perf_counter() - begin) / job.part
        rates[name] = work / seconds
    # any machine: more operations than one a nanosecond, fewer than a thousand
    assert 1e8 < rates["fma"] < 1e13
    assert 1e7 < rates["copy"] < 1e13
    assert PEERS["fma"].jobs["rulebook"](CASES["rulebook"].prepare(scene, 4, "small")) is None


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
    assert choose("all") == [peer for peer in PEERS.values() if not peer.slow]
    assert [peer.name for peer in PEERS.values() if peer.slow] == ["open3d-ml"]
