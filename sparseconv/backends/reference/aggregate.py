"""Weighted sums over pairs in plain torch, and the dot products that are their adjoint."""

import torch
from torch import Tensor

from sparseconv.backends.reference.conv import accumulator
from sparseconv.backends.reference.pairs import rows_within


def aggregate(
    features: Tensor,  # [N, C]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    weights: Tensor | None,  # [P]
    num_out: int,
) -> Tensor:  # [M, C]
    """Return `y[o] = sum over pairs (i, o) of w x[i]`; w is 1 where `weights` is None."""
    wide = accumulator(features.dtype)
    inputs = rows_within("in_rows", in_rows, features.shape[0])
    outputs = rows_within("out_rows", out_rows, num_out)
    gathered = features.to(wide)[inputs]
    if weights is not None:
        gathered = gathered * weights.to(wide)[:, None]
    y = torch.zeros(num_out, features.shape[1], dtype=wide, device=features.device)
    return y.index_add_(0, outputs, gathered).to(features.dtype)


def pair_dot(
    a: Tensor,  # [N, C]
    b: Tensor,  # [M, C]
    a_rows: Tensor,  # [P] int32
    b_rows: Tensor,  # [P] int32
) -> Tensor:  # [P]
    """Return `<a[i], b[o]>` of every pair."""
    wide = accumulator(a.dtype)
    left = a.to(wide)[rows_within("a_rows", a_rows, a.shape[0])]
    right = b.to(wide)[rows_within("b_rows", b_rows, b.shape[0])]
    return (left * right).sum(1).to(a.dtype)
