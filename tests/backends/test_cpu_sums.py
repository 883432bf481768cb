"""Compiled sums, dot products and maxima against the reference, on arbitrary pairs."""

import pytest
import torch

pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

from sparseconv.backends.cpu import aggregate as cpu
from sparseconv.backends.cpu.pool import pool_max, pool_max_grad
from sparseconv.backends.reference import aggregate as reference
from sparseconv.backends.reference.pool import pool_max as reference_pool_max
from sparseconv.backends.reference.pool import pool_max_grad as reference_pool_max_grad
from sparseconv.testing.tolerances import tolerance

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SIZES = [(0, 0, 0), (5, 0, 0), (5, 7, 0), (50, 40, 300), (300, 2, 900), (60, 9000, 12000)]


def random_pairs(n, m, pairs, *, ordered):
    in_rows = torch.randint(max(n, 1), (pairs,), dtype=torch.int32)
    out_rows = torch.randint(max(m, 1), (pairs,), dtype=torch.int32)
    return in_rows, out_rows.sort().values if ordered else out_rows


def agree(found, expected, dtype):
    assert found.dtype == expected.dtype
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    close = tolerance(dtype, "kernel")["atol"] * max(scale, 1.0)
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=close)


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 17, 64])
def test_sums_and_dots(isa, dtype, channels, ordered):
    for n, m, pairs in SIZES:
        in_rows, out_rows = random_pairs(n, m, pairs, ordered=ordered)
        x, g = torch.randn(n, channels).to(dtype), torch.randn(m, channels).to(dtype)
        w = torch.randn(pairs).to(dtype)
        for weights in (w, None):
            args = (x, in_rows, out_rows, weights, m)
            agree(cpu.aggregate(*args), reference.aggregate(*args), dtype)
        args = (x, g, in_rows, out_rows)
        agree(cpu.pair_dot(*args), reference.pair_dot(*args), dtype)


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 17, 64])
def test_maxima_ties_and_numbers_that_are_none(isa, dtype, channels, ordered):
    for n, m, pairs in SIZES:
        in_rows, out_rows = random_pairs(n, m, pairs, ordered=ordered)
        # few distinct values: many ties
        x = torch.randint(-2, 3, (n, channels)).to(dtype)
        if n:
            x[torch.rand(n, channels) < 0.02] = torch.nan
            x[torch.rand(n, channels) < 0.1] = -torch.inf
        found, winner = pool_max(x, in_rows, out_rows, m)
        best, expected = reference_pool_max(x, in_rows, out_rows, m)
        assert torch.equal(winner, expected)
        torch.testing.assert_close(found, best, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 22, 64, 150])
def test_windows_tap_by_tap(isa, dtype, channels):
    # the pairs of a rulebook: output rows rise within a tap and fall back to the next
    out_rows = torch.cat([torch.randperm(900)[:count].sort().values for count in (700, 3, 0, 900)])
    in_rows = torch.randint(60, out_rows.shape, dtype=torch.int32)
    x = torch.randn(60, channels).to(dtype)
    x[7, 0] = torch.nan
    args = (x, in_rows, out_rows.int(), None, 1000)
    found, expected = cpu.aggregate(*args), reference.aggregate(*args)
    assert torch.equal(found.isnan(), expected.isnan())
    agree(found.nan_to_num(), expected.nan_to_num(), dtype)


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_few_rows_of_many_pairs(isa, dtype, ordered):
    # a sum over each scan; row 1 is an empty one
    in_rows, out_rows = random_pairs(400, 4, 40_000, ordered=ordered)
    out_rows[out_rows == 1] = 0 if ordered else 3
    # whole numbers: exact in any order
    x = torch.randint(-3, 4, (400, 5)).to(dtype)
    for weights in (torch.randint(0, 3, (40_000,)).to(dtype), None):
        args = (x, in_rows, out_rows, weights, 5)
        agree(cpu.aggregate(*args), reference.aggregate(*args), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 17, 150])
def test_gradients_go_to_the_row_that_won(isa, dtype, channels):
    for n, m in ((0, 0), (5, 0), (0, 7), (40, 300), (3000, 900)):
        grad = torch.randn(m, channels).to(dtype)
        winner = torch.randint(-1, n, (m, channels), dtype=torch.int32)
        args = (grad, winner, n)
        agree(pool_max_grad(*args), reference_pool_max_grad(*args), dtype)
    with pytest.raises(ValueError, match="winner"):
        pool_max_grad(grad, torch.full_like(winner, 2), 2)
    with pytest.raises(ValueError, match="winner"):
        pool_max_grad(grad, winner[:4], n)


def test_wrong_rows_are_refused():
    x, good = torch.randn(4, 2), torch.tensor([0, 1], dtype=torch.int32)
    bad = torch.tensor([0, 4], dtype=torch.int32)
    for call in (
        lambda i, o: cpu.aggregate(x, i, o, None, 4),
        lambda i, o: cpu.pair_dot(x, x, i, o),
        lambda i, o: pool_max(x, i, o, 4),
    ):
        with pytest.raises(ValueError, match="in_rows"):
            call(bad, good)
        with pytest.raises(ValueError, match="out_rows"):
            call(good, bad)
