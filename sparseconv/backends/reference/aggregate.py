"""Weighted sums over pairs in plain torch, and the dot products that are their adjoint."""

import torch
from torch import Tensor

from sparseconv.backends.reference.conv import accumulator


def aggregate(
    features: Tensor,  # [N, C]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    weights: Tensor | None,  # [P]
    num_out: int,
) -> Tensor:  # [M, C]
    """Return `y[o] = sum over pairs (i, o) of w x[i]`; w is 1 where `weights` is None."""
    wide = accumulator(features.dtype)
    gathered = features.to(wide)[in_rows.long()]
    if weights is not None:
        gathered = gathered * weights.to(wide)[:, None]
    y = torch.zeros(num_out, features.shape[1], dtype=wide, device=features.device)
    return y.index_add_(0, out_rows.long(), gathered).to(features.dtype)


def pair_dot(
    a: Tensor,  # [N, C]
    b: Tensor,  # [M, C]
    a_rows: Tensor,  # [P] int32
    b_rows: Tensor,  # [P] int32
) -> Tensor:  # [P]
    """Return `<a[i], b[o]>` of every pair."""
    wide = accumulator(a.dtype)
    return (a.to(wide)[a_rows.long()] * b.to(wide)[b_rows.long()]).sum(1).to(a.dtype)
