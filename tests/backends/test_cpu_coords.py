"""The compiled site index, deduplication and output sites against the reference."""

import itertools

import pytest
import torch

pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

from sparseconv.backends.cpu import coords as cpu
from sparseconv.backends.reference import coords as reference

LEAST, MOST = -(2**31), 2**31 - 1


def near(n, span):
    return torch.randint(-span, span, (n, 4), dtype=torch.int32)


def far(n):
    """Sites anywhere in int32, corners among them: no 64-bit key holds their box."""
    sites = torch.randint(LEAST, MOST, (n, 4))
    sites[:4] = torch.tensor(list(itertools.product((LEAST, MOST), repeat=4)))[[0, 5, 10, 15]]
    return sites[torch.randint(n, (2 * n,))].to(torch.int32)


CASES = {
    "none": lambda: near(0, 3),
    "one": lambda: near(1, 3),
    "dense": lambda: near(3000, 4),
    "sparse": lambda: near(3000, 40),
    "far": lambda: far(500),
    "line": lambda: near(1000, 50) * torch.tensor([0, 0, 1, 0], dtype=torch.int32),
    "one batch item at each end": lambda: torch.tensor(
        [[LEAST, 0, 0, 0], [MOST, 0, 0, 0]] * 3, dtype=torch.int32
    ),
}


@pytest.fixture(params=list(CASES))
def sites(request):
    return CASES[request.param]()


def test_unique(sites, threads):
    for found, expected in zip(
        cpu.unique_coords(sites), reference.unique_coords(sites), strict=True
    ):
        assert found.dtype == expected.dtype and torch.equal(found, expected)


def test_lookup_gives_the_lowest_row_or_none(sites, threads):
    # int32 wraps: neighbours of sites at the limits are sites at the other limit
    queries = torch.cat([sites, sites + 1, sites.flip(1), near(50, 60)])
    expected = reference.lookup(sites, reference.site_index(sites), queries)
    table = cpu.site_index(sites)
    assert table.shape[0] >= max(16, 2 * len(sites))
    assert torch.equal(cpu.lookup(sites, table, queries), expected)
    # the reference makes an empty table
    assert torch.equal(cpu.lookup(sites, reference.site_index(sites), queries), expected)


def test_index_built_by_several_threads_keeps_the_lowest_row():
    sites = near(60_000, 12)
    queries = reference.unique_coords(sites)[0]
    expected = cpu.lookup(sites, cpu.site_index(sites), queries)
    assert torch.equal(expected.long(), reference.unique_coords(sites)[3])
    torch.set_num_threads(2)
    for _ in range(10):
        assert torch.equal(cpu.lookup(sites, cpu.site_index(sites), queries), expected)


def test_sites_with_one_hash_are_told_apart():
    # multiples of 2^32 vanish from the low half of the linear hash's factors
    steps = [-(2**31), 0, 2**30, -(2**30)]
    sites = torch.tensor(list(itertools.product(steps, repeat=4)), dtype=torch.int32)
    rows = cpu.lookup(sites, cpu.site_index(sites), sites)
    assert torch.equal(rows, torch.arange(len(sites), dtype=torch.int32))


OFFSETS = {
    "2": list(itertools.product((0, 1), repeat=3)),
    "3": list(itertools.product((-1, 0, 1), repeat=3)),
    "list": [(5, -3, 2), (0, 0, 0), (-7, 1, 1), (5, -3, 2)],
}


@pytest.mark.parametrize("transposed", [False, True], ids=["down", "up"])
@pytest.mark.parametrize("stride", [[1, 1, 1], [2, 2, 2], [3, 1, 2], [1, 5000, 1]], ids=str)
@pytest.mark.parametrize("offsets", list(OFFSETS))
def test_output_sites(offsets, stride, transposed):
    flat = [value for offset in OFFSETS[offsets] for value in offset]
    for case in ("none", "one", "dense", "sparse", "line"):
        sites = CASES[case]()
        for bounds in (([], []), ([-3, 0, -1], [4, 5, 7]), ([1, 1, 1], [1, 1, 1])):
            args = (sites, flat, stride, *bounds, transposed)
            assert torch.equal(cpu.output_coords(*args), reference.output_coords(*args))


def test_output_sites_without_a_key():
    sites, flat = far(200), [value for offset in OFFSETS["2"] for value in offset]
    args = (sites, flat, [2, 2, 2], [], [], False)
    assert torch.equal(cpu.output_coords(*args), reference.output_coords(*args))


def test_output_sites_beyond_int32_are_refused():
    sites = torch.tensor([[0, 0, 0, MOST]], dtype=torch.int32)
    with pytest.raises(ValueError, match=f"{2 * MOST}"):
        cpu.output_coords(sites, [0, 0, 0], [2, 2, 2], [], [], True)
    # out of bounds is no fault
    kept = cpu.output_coords(sites, [0, 0, 0], [2, 2, 2], [0, 0, 0], [9, 9, 9], True)
    assert kept.shape == (0, 4)


def test_wrong_arguments_are_refused():
    sites = near(5, 3)
    with pytest.raises(TypeError, match="coords"):
        cpu.site_index(sites.long())
    with pytest.raises(ValueError, match="coords"):
        cpu.site_index(sites[:, :3])
    with pytest.raises(ValueError, match="table"):
        cpu.lookup(sites, torch.zeros(32, dtype=torch.int64), sites)
    with pytest.raises(ValueError, match="stride"):
        cpu.output_coords(sites, [0, 0, 0], [0, 1, 1], [], [], False)
    with pytest.raises(ValueError, match="offsets"):
        cpu.output_coords(sites, [2**40, 0, 0], [1, 1, 1], [], [], False)


def test_rows_that_are_not_contiguous():
    wide = torch.zeros(100, 8, dtype=torch.int32)
    wide[:, ::2] = near(100, 3)
    sites = wide[:, ::2]
    assert torch.equal(cpu.unique_coords(sites)[0], reference.unique_coords(sites)[0])
    found = cpu.lookup(sites, cpu.site_index(sites), sites.flip(0))
    assert torch.equal(found, reference.lookup(sites, sites, sites.flip(0)))
