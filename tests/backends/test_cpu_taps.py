"""Compiled sums over taps and their dot products against the reference, on arbitrary pairs."""

import pytest
import torch

pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

from sparseconv.backends.cpu import conv as cpu_conv
from sparseconv.backends.cpu import taps as cpu
from sparseconv.backends.reference import conv as reference_conv
from sparseconv.backends.reference import taps as reference
from sparseconv.testing.tolerances import tolerance

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# inputs, sites, pairs of each tap; several blocks of rows, taps and rows without pairs
SIZES = [
    (0, 0, [0, 0]),
    (5, 0, [0]),
    (5, 7, []),
    (5, 7, [0, 9, 0]),
    (300, 2, [70, 30]),
    (90, 310, [200, 0, 310, 3, 150]),
]
# channels, groups: whole vectors, parts of them, one group, groups of odd numbers
GROUPS = [(64, 4), (64, 64), (64, 1), (32, 4), (32, 8), (16, 8), (22, 22), (21, 1), (21, 7), (3, 3)]
GROUPS += [(48, 4), (10, 2), (1, 1), (150, 2)]


def random_book(n, m, counts, *, ordered):
    book = [(torch.randint(max(n, 1), (c,)), torch.randint(max(m, 1), (c,))) for c in counts]
    if ordered:
        book = [(i, o.sort().values) for i, o in book]
    none = torch.zeros(0, dtype=torch.int64)
    in_rows = torch.cat([none, *(i for i, _ in book)]).int()
    out_rows = torch.cat([none, *(o for _, o in book)]).int()
    return in_rows, out_rows, torch.tensor([0, *counts]).cumsum(0)


def agree(found, expected, dtype):
    assert found.dtype == expected.dtype and found.shape == expected.shape
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    close = tolerance(dtype, "kernel")["atol"] * max(scale, 1.0)
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=close)


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("channels", "groups"), GROUPS)
def test_sums_and_dots(isa, dtype, channels, groups, ordered):
    for n, m, counts in SIZES:
        book = random_book(n, m, counts, ordered=ordered)
        x, g = torch.randn(n, channels).to(dtype), torch.randn(m, channels).to(dtype)
        w = torch.randn(m, len(counts), groups).to(dtype)
        for args in ((x, w, *book, m, False), (g, w, *book, n, True)):
            agree(cpu.tap_sum(*args), reference.tap_sum(*args), dtype)
        args = (x, g, *book, groups)
        agree(cpu.tap_dot(*args), reference.tap_dot(*args), dtype)


@pytest.mark.parametrize(("channels", "groups"), GROUPS)
def test_numbers_that_are_none_stay_in_their_group(isa, channels, groups):
    book = random_book(40, 90, [80, 60], ordered=True)
    x, w, g = torch.randn(40, channels), torch.randn(90, 2, groups), torch.randn(90, channels)
    x[::7, :: max(channels // groups, 2)] = torch.nan
    x[3::7, -1] = torch.inf
    for found, expected in (
        (cpu.tap_sum(x, w, *book, 90, False), reference.tap_sum(x, w, *book, 90, False)),
        (cpu.tap_dot(x, g, *book, groups), reference.tap_dot(x, g, *book, groups)),
    ):
        torch.testing.assert_close(
            found, expected, **tolerance(torch.float32, "traced"), equal_nan=True
        )


def test_wrong_rows_and_shapes_are_refused():
    x, w = torch.randn(4, 2), torch.randn(4, 1, 2)
    good, bad = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([0, 4], dtype=torch.int32)
    segments = torch.tensor([0, 2])
    for call in (
        lambda i, o: cpu.tap_sum(x, w, i, o, segments, 4, False),
        lambda i, o: cpu.tap_dot(x, x, i, o, segments, 2),
    ):
        with pytest.raises(ValueError, match="in_rows"):
            call(bad, good)
        with pytest.raises(ValueError, match="out_rows"):
            call(good, bad)
    with pytest.raises(ValueError, match="weights"):
        cpu.tap_sum(x, w[:3], good, good, segments, 4, False)
    with pytest.raises(ValueError, match="segments"):
        cpu.tap_dot(x, x, good, good, torch.tensor([0, 3]), 2)
    with pytest.raises(ValueError, match="groups"):
        cpu.tap_dot(x, x, good, good, segments, 3)


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("channels", [22, 64])
def test_depthwise_layers_of_many_taps(isa, channels, ordered):
    # most taps have no pair in a block of rows
    counts = torch.randint(0, 4, (1100,)).tolist()
    book = random_book(200, 2100, counts, ordered=ordered)
    x, g = torch.randn(200, channels), torch.randn(2100, channels)
    w, b = torch.randn(1100, 1, channels), torch.randn(channels)
    args = (x, w, b, *book, 2100, channels)
    agree(cpu_conv.conv(*args), reference_conv.conv(*args), torch.float32)
    args = (x, g, *book, channels)
    expected = reference_conv.conv_grad_weight(*args)
    agree(cpu_conv.conv_grad_weight(*args), expected, torch.float32)
