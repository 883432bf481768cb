"""Rulebooks from pyramids of halved lattices against the reference, which searches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

from sparseconv import _native
from sparseconv.backends.cpu import coords as cpu_coords
from sparseconv.backends.cpu import pyramid as cpu
from sparseconv.backends.cpu.rulebook import rulebook
from sparseconv.backends.reference import coords as reference_coords
from sparseconv.backends.reference import pyramid as reference

LEAST, MOST = -(2**31), 2**31 - 1
NONE = torch.zeros(0, dtype=torch.int64)


@st.composite
def clouds(draw):
    """Distinct sites, dense enough for neighbours, anywhere in int32, in any order."""
    xyz = []
    n = draw(st.sampled_from([1, 2, 40, 300, 1500]))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    for _ in range(3):
        size = draw(st.sampled_from([1, 2, 5, 16, 50]))
        near = draw(st.sampled_from([0, 0, 2**10, -(2**20), 2**30, LEAST, MOST]))
        low = max(LEAST, min(near - draw(st.integers(0, size)), MOST + 1 - size))
        xyz.append(low + torch.randint(size, (n, 1), generator=rng))
    items = draw(st.sampled_from([1, 3, 500]))
    batch = draw(st.integers(0, 2**20)) + 2 * torch.randint(items, (n, 1), generator=rng)
    sites = torch.cat([batch, *xyz], 1).to(torch.int32)
    if draw(st.booleans()):  # a second cluster, so that one axis or more has two ends
        far = sites.clone()
        axes = draw(st.sampled_from([[1], [2, 3], [1, 2, 3]]))
        far[:, axes] = ~far[:, axes]
        sites = torch.cat([sites, far])
    sites = reference_coords.unique_coords(sites)[0]
    order = draw(st.sampled_from(["Z", "shuffled", "falling"]))
    if order == "shuffled":
        return sites[torch.randperm(len(sites), generator=rng)]
    return sites.flip(0).contiguous() if order == "falling" else sites


def assert_equal(found, expected):
    for left, right in zip(found, expected, strict=True):
        if isinstance(left, list):
            assert_equal(left, right)
        else:
            assert left.dtype == right.dtype and torch.equal(left, right)


def place_of(pyramid):
    return pyramid.data_ptr(), len(pyramid)


def check_levels(sites, threads=1):
    torch.set_num_threads(threads)
    pyramid, cube = cpu.pyramid(sites, cpu_coords.site_order(sites), True)
    assert_equal(cube, reference.pyramid(sites, NONE, True)[1])
    assert_equal((pyramid, []), cpu.pyramid(sites, NONE, False))
    held = 0
    for depth in range(40):
        held += _native.cube_rulebook(*place_of(pyramid), depth, len(sites), threads) is not None
        assert_equal(
            cpu.cube_rulebook(sites, pyramid, depth), reference.cube_rulebook(sites, NONE, 0)
        )
        halved = reference.halve(sites, NONE, 0, depth % 2 == 0)
        assert_equal(cpu.halve(sites, pyramid, depth, depth % 2 == 0), halved)
        if len(halved[0]) == len(sites) and depth >= held + 1:
            break
        sites = halved[0]
    return held


@given(clouds())
@settings(max_examples=60)
def test_every_level_has_the_references_rulebooks(sites):
    has_order = int(cpu_coords.site_order(sites)[1]) == len(sites)
    assert (check_levels(sites) > 0) == has_order


# few neighbours and many, and numbers of rows that fill no vector
@pytest.mark.parametrize(("n", "extent"), [(3, 45), (2000, 45), (900, 9), (2500, 11), (67, 4)])
def test_every_instruction_set_and_thread_count(isa, threads, n, extent):
    for shuffled in (False, True):
        sites = torch.randint(-20, extent - 20, (n, 4), dtype=torch.int32)
        sites[:, 0] %= 3
        sites = cpu_coords.unique_coords(sites)[0]
        check_levels(sites[torch.randperm(len(sites))] if shuffled else sites, threads)


def test_many_sites_sorted_by_two_threads(isa):
    # beyond the size from which threads share a sort and a table
    sites = torch.randint(-40, 40, (70_000, 4), dtype=torch.int32)
    sites[:, 0] %= 2
    sites = cpu_coords.unique_coords(sites)[0]
    sites = sites[torch.randperm(len(sites))]
    flat = [v for tap in torch.cartesian_prod(*[torch.arange(-1, 2)] * 3).tolist() for v in tap]
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        order = cpu_coords.site_order(sites)
        pyramid, cube = cpu.pyramid(sites, order, True)
        book = cpu.cube_rulebook(sites, pyramid, 0)
        assert_equal(cube, list(book))
        assert_equal(book, rulebook(sites, NONE, sites, flat, [1, 1, 1], True))
        results.append([order, *book])
        coarser = sites
        for depth in range(4):
            coarser, *book, cube = cpu.halve(coarser, pyramid, depth, True)
            assert_equal(cube, list(cpu.cube_rulebook(coarser, pyramid, depth + 1)))
            results[-1] += [coarser, *book, *cube]
        expected = rulebook(coarser, NONE, coarser, flat, [1, 1, 1], True)
        assert_equal(results[-1][-3:], expected)
    assert_equal(*results)


@pytest.mark.parametrize(
    ("sites", "distinct"),
    [
        ([], 0),
        ([[0, 1, 2, 3]] * 2 + [[0, 0, 0, 0]], 2),
        ([[0, 1, 2, 3], [0, 1, 2, 4]], 2),
        # no 62-bit key holds a box of all of int32
        ([[0, LEAST, 3, 5], [0, MOST, MOST, LEAST], [0, 2**29, 7, 2**28], [0, 0, 1, 2**29]], -1),
    ],
)
def test_order_counts_distinct_sites_and_bounds_them(sites, distinct):
    sites = torch.tensor(sites, dtype=torch.int32).reshape(-1, 4)
    head = cpu_coords.site_order(sites)[:10].tolist()
    assert head[:2] == [len(sites), distinct]
    if len(sites):
        assert head[2:6] == sites.amin(0).tolist() and head[6:10] == sites.amax(0).tolist()
    # with or without a pyramid
    assert_equal(
        cpu.cube_rulebook(sites, cpu.pyramid(sites, NONE, False)[0], 0),
        reference.cube_rulebook(sites, NONE, 0),
    )
    pyramid, cube = cpu.pyramid(sites, NONE, True)
    assert_equal(cube, reference.pyramid(sites, NONE, True)[1])
    assert_equal(cpu.halve(sites, pyramid, 0, True), reference.halve(sites, NONE, 0, True))


def test_a_pyramid_of_other_sites_is_not_believed():
    sites = cpu_coords.unique_coords(torch.randint(0, 9, (300, 4), dtype=torch.int32))[0]
    pyramid, _ = cpu.pyramid(sites, NONE, False)
    fewer = sites[:100].contiguous()
    assert_equal(cpu.cube_rulebook(fewer, pyramid, 0), reference.cube_rulebook(fewer, NONE, 0))
    expected = reference.halve(fewer, NONE, 0, True)
    assert_equal(cpu.halve(fewer, pyramid, 7, True), expected)
    assert_equal(cpu.halve(fewer, pyramid, 7, False), (*expected[:4], []))
