"""What a primitive refuses: the message names argument, expectation and finding."""

import pytest
import torch

import sparseconv as sc
from sparseconv.ops import coords as coords_ops
from sparseconv.ops.aggregate import aggregate, pair_dot
from sparseconv.ops.blocks import block_index
from sparseconv.ops.conv import conv, conv_grad_weight
from sparseconv.ops.conv_norm import conv_norm
from sparseconv.ops.deform_conv import deform_conv
from sparseconv.ops.moved_sum import moved_sum
from sparseconv.ops.pool import pool_max
from sparseconv.ops.rulebook import rulebook
from sparseconv.ops.sample import sample_sum

ROWS = torch.zeros(2, dtype=torch.int32)
SEGMENTS = torch.tensor([0, 2])
X, W = torch.ones(3, 4), torch.ones(1, 4, 2)
COORDS = torch.tensor([[0, 0, 0, 0]], dtype=torch.int32)
# three sites, two positions of two rows for two groups
SITES = torch.tensor([[0, 0, 0, z] for z in range(3)], dtype=torch.int32)
INDEX, P = block_index(SITES), torch.zeros(2, 2, 2, 3)
HEADS, GRID = torch.zeros(2, 6), torch.zeros(2, 3)

MAPS = torch.zeros(16, 5), torch.zeros(16), GRID
Q = torch.zeros(2, 5)

CALLS = {
    "query rows": (
        lambda: moved_sum(X, SITES, INDEX, SITES, Q, *MAPS, 2),
        ValueError,
        "query: expected 3 rows, found",
    ),
    "query dtype": (
        lambda: moved_sum(X, SITES, INDEX, SITES[:2], Q.double(), *MAPS, 2),
        TypeError,
        "query: expected",
    ),
    "weights of predictions": (
        lambda: moved_sum(X, SITES, INDEX, SITES[:2], Q, MAPS[0][1:], *MAPS[1:], 2),
        ValueError,
        r"weight: expected shape \[16, 5\], found .*three offsets and a weight",
    ),
    "half weights of predictions": (
        lambda: moved_sum(X, SITES, INDEX, SITES[:2], Q, MAPS[0].half(), *MAPS[1:], 2),
        TypeError,
        "weight: expected float32 on cpu, found float16",
    ),
    "groups of predictions": (
        lambda: moved_sum(X, SITES, INDEX, SITES[:2], Q, *MAPS, 3),
        ValueError,
        "groups: expected a divisor of 4 channels, found 3",
    ),
    "shares of any sign": (
        lambda: moved_sum(X, SITES, INDEX, SITES[:2], Q, *MAPS, 2, False, True),
        ValueError,
        "renormalize: expected softmax=True.*may sum to 0",
    ),
    "coords int64": (
        lambda: coords_ops.site_index(COORDS.long()),
        TypeError,
        r"coords: expected an int32.*found int64.*convert",
    ),
    "coords columns": (
        lambda: coords_ops.unique_coords(COORDS[:, :3]),
        ValueError,
        r"coords: expected shape \[N, 4\], found int32 \[1, 3\]",
    ),
    "residual": (
        lambda: conv(X, W, None, ROWS, ROWS, SEGMENTS, 3, residual=torch.ones(3, 5)),
        ValueError,
        r"residual: expected shape \[M, 2\], found float32 \[3, 5\]",
    ),
    "residual of one row": (
        lambda: conv(X, W, None, ROWS, ROWS, SEGMENTS, 3, residual=torch.ones(1, 2)),
        ValueError,
        "residual: expected 3 rows",
    ),
    "residual of one row, with gradients": (
        lambda: conv(
            X, W.clone().requires_grad_(), None, ROWS, ROWS, SEGMENTS, 3, residual=torch.ones(1, 2)
        ),
        ValueError,
        "residual: expected 3 rows",
    ),
    "residual of one column, with gradients": (
        lambda: conv(
            X, W.clone().requires_grad_(), None, ROWS, ROWS, SEGMENTS, 3, residual=torch.ones(3, 1)
        ),
        ValueError,
        r"residual: expected shape \[M, 2\]",
    ),
    "weight of sums": (
        lambda: conv(X.bfloat16(), W, None, ROWS, ROWS, SEGMENTS, 3),
        TypeError,
        "weight: expected bfloat16 on cpu, as the features, found float32",
    ),
    "scale": (
        lambda: conv_norm(X, W, None, ROWS, ROWS, SEGMENTS, 3, scale=torch.ones(3)),
        ValueError,
        r"scale: expected shape \[2\], found float32 \[3\]",
    ),
    "channels before a norm": (
        lambda: conv_norm(X[:, :3], W, None, ROWS, ROWS, SEGMENTS, 3),
        ValueError,
        "features: expected 4 channels.*set in_channels",
    ),
    "residual behind a norm": (
        lambda: conv_norm(X, W, None, ROWS, ROWS, SEGMENTS, 3, residual=torch.ones(1, 2)),
        ValueError,
        "residual: expected 3 rows",
    ),
    "queries": (
        lambda: coords_ops.lookup(COORDS, coords_ops.site_index(COORDS), COORDS.float()),
        TypeError,
        "queries: expected an int32",
    ),
    "out coords": (
        lambda: rulebook(
            COORDS, coords_ops.site_index(COORDS), COORDS.long(), [0] * 3, [1] * 3, False
        ),
        TypeError,
        "out_coords: expected",
    ),
    "no offsets of three": (
        lambda: coords_ops.output_coords(COORDS, [0, 0], [1, 1, 1], [], [], False),
        ValueError,
        "offsets",
    ),
    "stride of zero": (
        lambda: coords_ops.output_coords(COORDS, [0, 0, 0], [1, 0, 1], [], [], False),
        ValueError,
        "stride",
    ),
    "features int": (
        lambda: conv(X.int(), W, None, ROWS, ROWS, SEGMENTS, 3),
        TypeError,
        "features: expected float32",
    ),
    "features of one axis": (
        lambda: pool_max(torch.ones(3), ROWS, ROWS, 1),
        ValueError,
        r"features: expected shape \[N, C\]",
    ),
    "weight dtype": (
        lambda: conv(X, W.double(), None, ROWS, ROWS, SEGMENTS, 3),
        TypeError,
        r"weight: expected float32.*found float64.*\.to\(\)",
    ),
    "bias dtype": (
        lambda: conv(X, W, torch.ones(2).double(), ROWS, ROWS, SEGMENTS, 3),
        TypeError,
        "bias: expected float32",
    ),
    "bias length": (
        lambda: conv(X, W, torch.ones(3), ROWS, ROWS, SEGMENTS, 3),
        ValueError,
        r"bias: expected shape \[2\]",
    ),
    "channels": (
        lambda: conv(torch.ones(3, 5), W, None, ROWS, ROWS, SEGMENTS, 3),
        ValueError,
        "features: expected 4 channels.*found 5 channels",
    ),
    "groups": (
        lambda: conv(torch.ones(3, 12), W, None, ROWS, ROWS, SEGMENTS, 3, 3),
        ValueError,
        "divisible by 3",
    ),
    "weight of two axes": (
        lambda: conv(X, W[0], None, ROWS, ROWS, SEGMENTS, 3),
        ValueError,
        "weight: expected",
    ),
    "taps": (
        lambda: conv(X, torch.ones(2, 4, 2), None, ROWS, ROWS, SEGMENTS, 3),
        ValueError,
        "segments: expected 3 entries.*found 2",
    ),
    "rows dtype": (
        lambda: conv(X, W, None, ROWS.long(), ROWS, SEGMENTS, 3),
        TypeError,
        "in_rows: expected an int32",
    ),
    "rows lengths": (
        lambda: aggregate(X, ROWS, ROWS[:1], None, 3),
        ValueError,
        "out_rows: expected 2 entries",
    ),
    "weights length": (
        lambda: aggregate(X, ROWS, ROWS, torch.ones(5), 3),
        ValueError,
        "weights: expected",
    ),
    "dot dtype": (
        lambda: pair_dot(X, X.double(), ROWS, ROWS),
        TypeError,
        "b: expected float32",
    ),
    "dot channels": (
        lambda: pair_dot(X, X[:, :2], ROWS, ROWS),
        ValueError,
        "b: expected",
    ),
    "grad dtype": (
        lambda: conv_grad_weight(X, X.double(), ROWS, ROWS, SEGMENTS),
        TypeError,
        "grad: expected float32",
    ),
    "grad groups": (
        lambda: conv_grad_weight(X, X[:, :3], ROWS, ROWS, SEGMENTS, 2),
        ValueError,
        "groups|divisible",
    ),
    "positions of halves": (
        lambda: sample_sum(X, SITES, INDEX, ROWS, P.half(), None),
        TypeError,
        r"positions: expected float32 or float64.*found float16.*use \.float",
    ),
    "positions without axes": (
        lambda: sample_sum(X, SITES, INDEX, ROWS, P[..., :2], None),
        ValueError,
        r"positions: expected shape \[M, K, G, 3\]",
    ),
    "positions of groups": (
        lambda: sample_sum(X, SITES, INDEX, ROWS, P[:, :, :1].expand(2, 2, 3, 3), None),
        ValueError,
        "positions: expected groups that divide 4 channels, found 3 groups",
    ),
    "positions rows": (
        lambda: sample_sum(X, SITES, INDEX, ROWS[:1], P, None),
        ValueError,
        "items: expected 2 rows",
    ),
    "items dtype": (
        lambda: sample_sum(X, SITES, INDEX, ROWS.long(), P, None),
        TypeError,
        "items: expected an int32.*batch column",
    ),
    "sites and features": (
        lambda: sample_sum(X[:2], SITES, INDEX, ROWS, P, None),
        ValueError,
        "coords: expected 2 rows",
    ),
    "weights of samples": (
        lambda: sample_sum(X, SITES, INDEX, ROWS, P, torch.ones(2, 2, 1)),
        ValueError,
        r"weights: expected shape \[M, 2, 2\]",
    ),
    "heads of halves": (
        lambda: deform_conv(X, SITES, INDEX, SITES[:2], HEADS.half(), GRID, W, None),
        TypeError,
        r"heads: expected float32 or float64.*use \.float",
    ),
    "heads width": (
        lambda: deform_conv(X, SITES, INDEX, SITES[:2], HEADS[:, :5], GRID, W, None),
        ValueError,
        r"heads: expected shape \[M, 6\], or with masks \[M, 8\]",
    ),
    "heads rows": (
        lambda: deform_conv(X, SITES, INDEX, SITES[:1], HEADS, GRID, W, None),
        ValueError,
        "sites: expected 2 rows",
    ),
    "heads groups": (
        lambda: deform_conv(X, SITES, INDEX, SITES[:2], HEADS, GRID, W, None, 3),
        ValueError,
        "parts: expected a divisor of 4 channels, found 3",
    ),
    "grid dtype": (
        lambda: deform_conv(X, SITES, INDEX, SITES[:2], HEADS, GRID.double(), W, None),
        TypeError,
        "grid: expected float32",
    ),
    "grid shape": (
        lambda: deform_conv(X, SITES, INDEX, SITES[:2], HEADS, GRID[:, :2], W, None),
        ValueError,
        r"grid: expected shape \[K, 3\]",
    ),
    "weight of samples": (
        lambda: deform_conv(X, SITES, INDEX, SITES[:2], HEADS, GRID, W, None),
        ValueError,
        r"weight: expected shape \[2, C / groups, D\] for 4 channels and 1 groups",
    ),
    "bias of samples": (
        lambda: deform_conv(
            X, SITES, INDEX, SITES[:2], HEADS, GRID, W.repeat(2, 1, 1), torch.ones(3)
        ),
        ValueError,
        r"bias: expected shape \[2\]",
    ),
    "backend": (lambda: sc.use_backend("abacus").__enter__(), ValueError, "name: expected one of"),
}


@pytest.mark.parametrize("name", CALLS)
def test_refusal(name):
    call, error, words = CALLS[name]
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("rows", ["in_rows", "out_rows"])
@pytest.mark.parametrize("value", [3, -1, 2**31 - 1])
def test_rows_out_of_range_never_reach_memory(backend, rows, value):
    # a rulebook of other sites: an error, not a read beyond the features
    bad = torch.tensor([0, value], dtype=torch.int32)
    pair = {"in_rows": (bad, ROWS), "out_rows": (ROWS, bad)}[rows]
    for call in (
        lambda: conv(X, W, None, *pair, SEGMENTS, 3),
        lambda: conv_grad_weight(X, X, *pair, SEGMENTS),
        lambda: aggregate(X, *pair, None, 3),
        lambda: pool_max(X, *pair, 3),
        lambda: pair_dot(X, X, *pair),
    ):
        with pytest.raises((IndexError, ValueError, RuntimeError)):
            call()
