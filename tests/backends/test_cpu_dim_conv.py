"""Compiled dimension-wise convolution and narrow groups against the reference, in every set."""

from math import prod

import pytest
import torch

pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

from sparseconv.backends.cpu import conv as cpu_conv
from sparseconv.backends.cpu import dim_conv as cpu
from sparseconv.backends.reference import conv as reference_conv
from sparseconv.backends.reference import dim_conv as reference
from sparseconv.ops.conv import NO_NORM
from sparseconv.testing.tolerances import tolerance

CLOSE = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}
# several blocks of rows; taps and rows without pairs
SIZES = [(0, 0, [0, 0, 0]), (5, 0, [0] * 3), (5, 7, [0, 9, 0]), (90, 1310, [700, 0, 2210])]
PLANES = [4, 9, 5]
# channels, axes, shifts: whole vectors and parts of them, two to four branches, narrow and wide
KINDS = [
    (64, [0, 1, 2, 3], [-1, 0, 1]),
    (96, [3, 1], [0, 2, -5, 1, 30]),
    (16, [2], [0]),
    (21, [0, 1, 2, 3], [-1, 0, 1]),
    (6, [3, 2, 1], [0, 4, -8, 1]),
    (1, [0, 3], [-1, 0]),
    (150, [2, 0, 1], [200, -149, 0]),
]


def random_book(n, m, counts, *, ordered):
    book = [(torch.randint(max(n, 1), (c,)), torch.randint(max(m, 1), (c,))) for c in counts]
    if ordered:
        book = [(i, o.sort().values) for i, o in book]
    in_rows, out_rows = (torch.cat(rows).int() for rows in zip(*book, strict=True))
    return in_rows, out_rows, torch.tensor([0, *counts]).cumsum(0)


def agree(found, expected, dtype):
    assert found.dtype == expected.dtype and found.shape == expected.shape
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    close = CLOSE[dtype] * max(scale, 1.0)
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=close)


def problem(channels, axes, shifts, n, m, counts, dtype, *, ordered):
    size = [1, 3, 1] if 2 in axes and len(axes) < 4 else [1, 1, 3]
    where = (
        torch.stack([torch.randint(p, (m,)) for p in (2, *PLANES)], 1).int(),
        *random_book(n, m, counts, ordered=ordered),
    )
    shapes = reference.branch_shapes(channels, size, PLANES, shifts, axes)
    x, w = torch.randn(n, channels).to(dtype), torch.randn(sum(map(prod, shapes))).to(dtype)
    kind = size, PLANES, shifts, axes, False
    join, bias = torch.randn(len(axes), channels).to(dtype), torch.randn(channels).to(dtype)
    for given, width in ((None, len(axes) * channels), (join, channels)):
        g, beside = torch.randn(m, width).to(dtype), None if given is None else bias
        yield "dim_conv", (x, w, given, beside, *where, *kind)
        yield "dim_conv_grad", (x, g, w, given, *where, *kind)
        yield "dim_conv_grad_weight", (x, g, given, *where, *kind)


def each(made):
    return made if isinstance(made, tuple) else (made,)


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
@pytest.mark.parametrize(("channels", "axes", "shifts"), KINDS, ids=str)
def test_sums_and_gradients(isa, dtype, channels, axes, shifts, ordered):
    for n, m, counts in SIZES:
        for name, args in problem(channels, axes, shifts, n, m, counts, dtype, ordered=ordered):
            found, expected = getattr(cpu, name)(*args), getattr(reference, name)(*args)
            for one, other in zip(each(found), each(expected), strict=True):
                agree(one, other, dtype)


@pytest.mark.parametrize("channels", [64, 21])
def test_numbers_that_are_none_stay_where_they_are_read(isa, channels):
    kind = channels, [0, 1, 2, 3], [-1, 0, 1], 40, 90, [80, 0, 60], torch.float32
    for name, args in problem(*kind, ordered=True):
        if name == "dim_conv_grad_weight":
            continue
        of = args[1] if name == "dim_conv_grad" else args[0]
        of[::7, ::9] = torch.nan
        of[3::7, -1] = torch.inf
        found, expected = getattr(cpu, name)(*args), getattr(reference, name)(*args)
        torch.testing.assert_close(
            each(found)[0], each(expected)[0], **tolerance(torch.float32, "traced"), equal_nan=True
        )


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
@pytest.mark.parametrize("groups", [64, 16, 48, 12])
@pytest.mark.parametrize("many", [2, 4])
def test_groups_that_join_and_part(isa, groups, many, dtype, ordered):
    for n, m, counts in SIZES[1:]:
        book = random_book(n, m, counts, ordered=ordered)
        for channels, width in ((many * groups, groups), (groups, many * groups)):
            x, g = torch.randn(n, channels).to(dtype), torch.randn(m, width).to(dtype)
            w = torch.randn(len(counts), channels // groups, width)
            bias, residual = torch.randn(width).to(dtype), torch.randn(m, width).to(dtype)
            for weight in {w.to(dtype).dtype: w.to(dtype), torch.float32: w}.values():
                if dtype == torch.float64 and weight.dtype != dtype:
                    continue
                args = x, weight, bias, *NO_NORM, residual, True, *book, m, groups
                found, expected = cpu_conv.conv_fused(*args), reference_conv.conv_fused(*args)
                agree(found, expected, dtype)
            args = x, g, *book, groups
            agree(cpu_conv.conv_grad_weight(*args), reference_conv.conv_grad_weight(*args), dtype)
