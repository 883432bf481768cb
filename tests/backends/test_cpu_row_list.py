"""Pairs listed by output row: what the list holds, and what depthwise sums make of it."""

from itertools import pairwise

import pytest
import torch

pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

from sparseconv.backends.cpu import conv as cpu
from sparseconv.backends.cpu.row_list import pairs_by_row
from sparseconv.backends.reference import row_list as reference
from sparseconv.ops.conv import NO_NORM

HEAD, SPARE = 4, 64


def random_book(n, m, pairs, taps, *, ordered):
    """Pairs with repeated output rows within a tap; some taps are empty."""
    in_rows = torch.randint(max(n, 1), (pairs,), dtype=torch.int32)
    out_rows = torch.randint(max(m, 1), (pairs,), dtype=torch.int32)
    cuts = torch.randint(pairs + 1, (taps - 1,)).sort().values.tolist()
    segments = torch.tensor([0, *cuts, pairs])
    if ordered:
        parts = out_rows.split(segments.diff().tolist())
        out_rows = torch.cat([part.sort().values for part in parts])
    return in_rows, out_rows, segments


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_what_a_list_holds(ordered):
    in_rows, out_rows, segments = random_book(30, 20, 200, 7, ordered=ordered)
    rows = [[] for _ in range(21)]
    for tap in range(7):
        for p in range(int(segments[tap]), int(segments[tap + 1])):
            rows[out_rows[p]].append((tap << 32) + int(in_rows[p]))
    listed = pairs_by_row(in_rows, out_rows, segments, 21).tolist()
    assert listed[:HEAD] == [21, 200, 7, int(in_rows.max()) + 1]
    starts, pairs = listed[HEAD : HEAD + 22], listed[HEAD + 22 :]
    assert [pairs[a:b] for a, b in pairwise(starts)] == rows
    assert pairs[200:] == [0] * SPARE


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize(
    ("m", "pairs", "taps"), [(5000, 9000, 27), (3, 500, 600), (4, 0, 3), (0, 0, 3), (9, 0, 1)]
)
def test_as_the_reference_on_any_threads(m, pairs, taps, ordered):
    book = random_book(50, m, pairs, taps, ordered=ordered)
    for segments in (book[2], book[2][: taps // 2 + 1]):
        expected = reference.pairs_by_row(*book[:2], segments, m)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(pairs_by_row(*book[:2], segments, m), expected), threads


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels", [2, 5, 12, 24, 40, 64, 70, 150])
def test_a_list_at_hand_changes_no_bit(isa, dtype, channels):
    book = random_book(60, 700, 4000, 27, ordered=channels % 4 == 0)
    x, g = torch.randn(60, channels).to(dtype), torch.randn(700, channels).to(dtype)
    w, b = torch.randn(27, 1, channels).to(dtype), torch.randn(channels).to(dtype)
    by_row = pairs_by_row(*book, 700)
    for mirrored in (False, True):
        kind = channels, False, mirrored
        assert torch.equal(
            cpu.conv(x, w, b, *book, 700, *kind), cpu.conv(x, w, b, *book, 700, *kind, by_row)
        )
        assert torch.equal(
            cpu.conv_grad_weight(x, g, *book, *kind),
            cpu.conv_grad_weight(x, g, *book, *kind, False, by_row),
        )
    # sums that go to the result, and those that are added to first
    plain = cpu.conv(x, w, b, *book, 700, channels, False, False, by_row)
    none = torch.zeros(700, channels, dtype=dtype)
    fused = cpu.conv_fused(x, w, b, *NO_NORM, none, False, *book, 700, channels, by_row)
    assert torch.equal(plain, fused)
    clipped = cpu.conv_fused(x, w, b, *NO_NORM, None, True, *book, 700, channels, by_row)
    assert torch.equal(plain.relu(), clipped)


@pytest.mark.parametrize("channels", [24, 64, 72])
def test_large_results_are_written_past_the_caches(isa, channels):
    m = (16 << 20) // (4 * channels) + 5
    book = random_book(60, m, 3000, 3, ordered=True)
    x, w = torch.randn(60, channels), torch.randn(3, 1, channels)
    found = cpu.conv(x, w, None, *book, m, channels)
    expected = torch.zeros(m, channels)
    for tap in range(3):
        pairs = slice(int(book[2][tap]), int(book[2][tap + 1]))
        expected.index_add_(0, book[1][pairs].long(), x[book[0][pairs].long()] * w[tap])
    torch.testing.assert_close(found, expected)


def test_a_list_of_another_rulebook_is_refused():
    in_rows, out_rows, segments = random_book(60, 70, 400, 5, ordered=True)
    by_row = pairs_by_row(in_rows, out_rows, segments, 70)
    x, g, w = torch.randn(60, 8), torch.randn(70, 8), torch.randn(5, 1, 8)
    calls = [
        lambda given, x=x, w=w, m=70, s=segments: cpu.conv(
            x, w, None, in_rows, out_rows, s, m, 8, False, False, given
        ),
        lambda given, x=x, w=w, m=70, s=segments: cpu.conv_grad_weight(
            x, g[:m], in_rows, out_rows, s, 8, False, False, False, given
        ),
    ]
    fewer = segments[:-1]
    for call in calls:
        call(by_row)
        for given in (by_row[:-1], pairs_by_row(in_rows, out_rows, segments, 71)):
            with pytest.raises(ValueError, match="by_row"):
                call(given)
        with pytest.raises(ValueError, match="by_row"):
            call(by_row, x=x[:40])
        with pytest.raises(ValueError, match="by_row"):
            call(by_row, w=w[:-1], s=fewer)
        with pytest.raises(TypeError, match="by_row"):
            call(by_row.int())
    with pytest.raises(ValueError, match="out_rows"):
        pairs_by_row(in_rows, out_rows, segments, 40)
    with pytest.raises(ValueError, match="num_out"):
        pairs_by_row(in_rows, out_rows, segments, -1)
