"""Compiled sums, dot products and maxima against the reference, on arbitrary pairs."""

import pytest
import torch

pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

from sparseconv.backends.cpu import aggregate as cpu
from sparseconv.backends.cpu.pool import pool_max
from sparseconv.backends.reference import aggregate as reference
from sparseconv.backends.reference.pool import pool_max as reference_pool_max

CLOSE = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}
SIZES = [(0, 0, 0), (5, 0, 0), (5, 7, 0), (50, 40, 300), (300, 2, 900), (60, 9000, 12000)]


def random_pairs(n, m, pairs, *, ordered):
    in_rows = torch.randint(max(n, 1), (pairs,), dtype=torch.int32)
    out_rows = torch.randint(max(m, 1), (pairs,), dtype=torch.int32)
    return in_rows, out_rows.sort().values if ordered else out_rows


def agree(found, expected, dtype):
    assert found.dtype == expected.dtype
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    close = CLOSE[dtype] * max(scale, 1.0)
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=close)


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
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
@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
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
