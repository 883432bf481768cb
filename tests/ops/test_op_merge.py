"""Rows of several rulebooks in one, against a walk over taps and parts."""

import pytest
import torch

from sparseconv.ops.merge import join_rows


def parts(counts, seed=0):
    rng = torch.Generator().manual_seed(seed)
    segments = torch.nn.functional.pad(torch.tensor(counts).cumsum(1), (1, 0))
    rows = [torch.randint(0, 50, (sum(c),), generator=rng, dtype=torch.int32) for c in counts]
    return segments, rows


def test_taps_come_in_order_and_parts_in_turn(backend, threads):
    counts = [[3, 0, 2, 40], [0, 0, 0, 0], [1, 5, 0, 17]]
    segments, rows = parts(counts)
    starts = [0, 100, 2**30]
    expected = []
    for tap in range(4):
        for part, start in zip(rows, starts, strict=True):
            number = next(n for n, each in enumerate(rows) if each is part)
            first = sum(counts[number][:tap])
            expected += [int(row) + start for row in part[first : first + counts[number][tap]]]
    found = join_rows(segments, rows, starts)
    assert found.dtype == torch.int32 and found.tolist() == expected


def test_views_of_larger_tensors(backend):
    segments, rows = parts([[2, 3], [1, 1]])
    spread = [torch.stack([each, each - 1000], 1)[:, 0] for each in rows]
    wide = torch.cat([segments, segments], 1)[:, :3]
    assert torch.equal(join_rows(wide, spread, [0, 9]), join_rows(segments, rows, [0, 9]))


def test_no_tap(backend):
    none = torch.zeros(0, dtype=torch.int32)
    assert join_rows(torch.zeros(2, 1, dtype=torch.int64), [none, none], [0, 0]).shape == (0,)


@pytest.mark.parametrize("change", ["fall", "end", "begin"])
def test_segments_that_do_not_cover_the_rows_are_refused(backend, change):
    segments, rows = parts([[2, 3], [1, 1]])
    if change == "fall":
        segments[0, 1] = 7
    elif change == "end":
        segments[0, 2] += 1
    else:
        segments[1, 0] = -1
    with pytest.raises((ValueError, RuntimeError), match=r"segments|split"):
        join_rows(segments, rows, [0, 0])


def test_numbers_of_scans_that_differ_are_refused():
    segments, rows = parts([[2, 3], [1, 1]])
    for wrong in (
        (segments[:1], rows, [0, 0]),
        (segments, rows[:1], [0, 0]),
        (segments, rows, [0]),
    ):
        with pytest.raises(ValueError, match=r"segments: expected \[B, K \+ 1\]"):
            join_rows(*wrong)
    with pytest.raises(ValueError, match="segments: expected"):
        join_rows(segments[:0], [], [])
