"""Weighted sums over pairs, and the dot products that are their adjoint."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import DTYPES, dense, pairs, rows


def aggregate(
    features: Tensor,  # [N, C]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    weights: Tensor | None,  # [P]
    num_out: int,
) -> Tensor:  # [M, C]
    """Return `y[o] = sum over pairs (i, o) of w x[i]`; w is 1 where `weights` is None."""
    features = rows("features", features)
    in_rows, out_rows = pairs(in_rows, out_rows)
    if weights is not None:
        weights = dense("weights", weights, features.dtype, 1)
        if weights.shape != in_rows.shape:
            raise ValueError(
                complain("weights", f"{in_rows.shape[0]} entries", f"{weights.shape[0]}")
            )
    y = features.new_empty(num_out, features.shape[1])
    _native.aggregate(
        DTYPES[features.dtype],
        features.shape[0],
        num_out,
        features.shape[1],
        features.data_ptr(),
        in_rows.data_ptr(),
        out_rows.data_ptr(),
        in_rows.shape[0],
        0 if weights is None else weights.data_ptr(),
        y.data_ptr(),
        torch.get_num_threads(),
    )
    return y


def pair_dot(
    a: Tensor,  # [N, C]
    b: Tensor,  # [M, C]
    a_rows: Tensor,  # [P] int32
    b_rows: Tensor,  # [P] int32
) -> Tensor:  # [P]
    """Return `<a[i], b[o]>` of every pair."""
    a = rows("a", a)
    b = rows("b", b, a.dtype)
    a_rows, b_rows = pairs(a_rows, b_rows)
    if a.shape[1] != b.shape[1]:
        raise ValueError(complain("b", f"{a.shape[1]} channels as a", f"{b.shape[1]}"))
    dots = a.new_empty(a_rows.shape[0])
    _native.pair_dot(
        DTYPES[a.dtype],
        a.shape[0],
        b.shape[0],
        a.shape[1],
        a.data_ptr(),
        b.data_ptr(),
        a_rows.data_ptr(),
        b_rows.data_ptr(),
        a_rows.shape[0],
        dots.data_ptr(),
        torch.get_num_threads(),
    )
    return dots
