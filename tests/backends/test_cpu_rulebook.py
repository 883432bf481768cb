"""The compiled rulebook against a dictionary of sites: merged, sorted first, and looked up."""

import itertools

import pytest
import torch

pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

from sparseconv.backends.cpu.coords import output_coords, site_index, unique_coords
from sparseconv.backends.cpu.rulebook import rulebook

LEAST, MOST = -(2**31), 2**31 - 1
OFFSETS = {
    "3": list(itertools.product((-1, 0, 1), repeat=3)),
    "3 dilated": list(itertools.product((-3, 0, 3), repeat=3)),
    "2": list(itertools.product((0, 1), repeat=3)),
    "one": [(0, 0, 0)],
    "column of 11": [(0, 0, z) for z in range(-5, 6)],
    "falling": [(0, 0, 1), (0, 0, 0), (0, 0, -1)],
    "any": [(5, -3, 2), (0, 0, 0), (-7, 1, 1), (5, -3, 2), (1, 0, 0)],
    "none": [],
}


def by_dictionary(in_coords, out_coords, offsets, stride):
    """Rows, taps and segments from the definition, one look-up at a time."""
    row_of = {}
    for row, site in enumerate(in_coords.tolist()):
        row_of.setdefault(tuple(site), row)
    in_rows, out_rows, segments = [], [], [0]
    for offset in offsets:
        for row, (b, *xyz) in enumerate(out_coords.tolist()):
            read = (b, *(v * s + o for v, s, o in zip(xyz, stride, offset, strict=True)))
            if read in row_of:
                in_rows.append(row_of[read])
                out_rows.append(row)
        segments.append(len(in_rows))
    return (
        torch.tensor(in_rows, dtype=torch.int32),
        torch.tensor(out_rows, dtype=torch.int32),
        torch.tensor(segments),
    )


def check(in_coords, out_coords, offsets, stride, same):
    flat = [value for offset in offsets for value in offset]
    args = (in_coords, site_index(in_coords), out_coords, flat, stride, same)
    for found, expected in zip(
        rulebook(*args), by_dictionary(in_coords, out_coords, offsets, stride), strict=True
    ):
        assert found.dtype == expected.dtype and torch.equal(found, expected)


def sites(n, span, *, shuffled):
    made = torch.randint(-span, span, (n, 4), dtype=torch.int32)
    made[:, 0] %= 3
    made = unique_coords(made)[0]
    return made[torch.randperm(len(made))] if shuffled else made


def far(n):
    """Clusters at the corners of int32: no 64-bit key holds their box."""
    corner = torch.randint(2, (n, 4)) * (MOST - LEAST - 5) + LEAST
    return unique_coords((corner + torch.randint(6, (n, 4))).to(torch.int32))[0]


@pytest.mark.parametrize("shuffled", [False, True], ids=["ascending", "shuffled"])
@pytest.mark.parametrize("name", list(OFFSETS))
def test_same_sites(threads, name, shuffled):
    for n, span in ((0, 3), (1, 3), (700, 5), (700, 12)):
        made = sites(n, span, shuffled=shuffled)
        for same in (True, False):
            check(made, made, OFFSETS[name], [1, 1, 1], same)


@pytest.mark.parametrize("shuffled", [False, True], ids=["ascending", "shuffled"])
@pytest.mark.parametrize("stride", [[2, 2, 2], [1, 3, 2]], ids=str)
@pytest.mark.parametrize("name", ["3", "2", "any"])
def test_across_lattices(threads, name, stride, shuffled):
    made = sites(600, 8, shuffled=shuffled)
    flat = [value for offset in OFFSETS[name] for value in offset]
    reached = output_coords(made, flat, stride, [], [], False)
    if shuffled:
        reached = reached[torch.randperm(len(reached))]
    check(made, reached, OFFSETS[name], stride, False)
    check(reached, made, OFFSETS[name], stride, False)


@pytest.mark.parametrize("name", ["3", "2", "any"])
def test_sites_without_a_key_are_looked_up(threads, name):
    made = far(400)
    check(made, made, OFFSETS[name], [1, 1, 1], True)
    check(made, made, OFFSETS[name], [1, 1, 1], False)
    made = made[torch.randperm(len(made))]
    check(made, made, OFFSETS[name], [1, 1, 1], True)
    check(made, made, OFFSETS[name], [2, 2, 2], False)


def test_sites_at_the_limits_do_not_wrap():
    ends = torch.tensor(
        [[0, 0, 0, LEAST], [0, 0, 0, LEAST + 1], [0, 0, 0, MOST - 1], [0, 0, 0, MOST]],
        dtype=torch.int32,
    )
    check(ends, ends, OFFSETS["3"], [1, 1, 1], True)
    check(ends, ends, OFFSETS["3"], [2, 2, 2], False)
    beside = torch.tensor([[0, 0, LEAST, 5], [0, 0, MOST, 4], [1, 0, LEAST, 5]], dtype=torch.int32)
    check(beside, beside, OFFSETS["3"], [1, 1, 1], True)


def test_equal_sites_give_the_lowest_row(threads):
    made = sites(300, 4, shuffled=True)
    made = made[torch.randint(len(made), (500,))]
    for same in (True, False):
        check(made, made, OFFSETS["3"], [1, 1, 1], same)
        ends = (made.long() * (2**28)).to(torch.int32)
        check(ends, ends, OFFSETS["3"], [1, 1, 1], same)


def test_the_table_may_be_missing():
    made = far(300)
    flat = [value for offset in OFFSETS["3"] for value in offset]
    without = rulebook(made, torch.zeros(0, dtype=torch.int64), made, flat, [1, 1, 1], True)
    with_table = rulebook(made, site_index(made), made, flat, [1, 1, 1], True)
    assert all(torch.equal(a, b) for a, b in zip(without, with_table, strict=True))
