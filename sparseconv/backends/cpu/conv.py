"""Gather-GEMM-scatter by output tiles, and the weight gradient."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import (
    DTYPES,
    address,
    columns,
    dense,
    pairs,
    rows,
    spaced,
    taps_of,
)
from sparseconv.backends.cpu.row_list import listed
from sparseconv.backends.kept_weights import kept
from sparseconv.backends.reference.conv import accumulator

NO_NORM = (None, None, None, None, 0.0)
NORM = ("mean", "var", "norm_weight", "norm_bias")


def conv(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
    groups: int,
    symmetric: bool = False,
    mirrored: bool = False,
    by_row: Tensor | None = None,  # [M + P + 69] int64
) -> Tensor:  # [M, D]
    """Return `y[o] = bias + sum over pairs (i, o) of tap t of x[i] W[t]`, group by group."""
    rulebook = in_rows, out_rows, segments
    return convolve(
        features, weight, bias, rulebook, num_out, groups, mirrored=mirrored, by_row=by_row
    )


def conv_fused(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    mean: Tensor | None,  # [D]
    var: Tensor | None,  # [D]
    norm_weight: Tensor | None,  # [D]
    norm_bias: Tensor | None,  # [D]
    eps: float,
    residual: Tensor | None,  # [M, D]
    relu: bool,
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
    groups: int,
    by_row: Tensor | None = None,  # [M + P + 69] int64
) -> Tensor:  # [M, D]
    """Return `conv`, normalised where there is a mean, plus the residual, clipped with `relu`."""
    rulebook = in_rows, out_rows, segments
    return convolve(
        features,
        weight,
        bias,
        rulebook,
        num_out,
        groups,
        by_row=by_row,
        norm=None if mean is None else (mean, var, norm_weight, norm_bias, eps),
        residual=residual,
        relu=relu,
    )


def convolve(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    rulebook: tuple[Tensor, Tensor, Tensor],  # [P], [P] int32, [K + 1] int64
    num_out: int,
    groups: int = 1,
    *,
    mirrored: bool = False,
    by_row: Tensor | None = None,  # [M + P + 69] int64
    norm: tuple | None = None,  # [D], [D], [D] or None, [D] or None, eps
    residual: Tensor | None = None,  # [M, D], or [Q, D or more]
    parents: Tensor | None = None,  # [M] int32
    counts: Tensor | None = None,  # [Q] int64
    relu: bool = False,
    out: Tensor | None = None,  # [M, D or as the residual]
) -> Tensor:  # [M, D]
    """Run a convolution, to `out` where it is given.

    `norm` is mean, variance, weight, bias and what is added to the variance, as for `norm_apply`.
    With one group rows of features and of `out` may lie apart. With `parents` row r is given row
    `parents[r]` of the residual, divided by that row's count; columns it has beyond D go to `out`.
    """
    y = features.new_empty(num_out, weight.shape[-1]) if out is None else out
    if parents is None:
        *of_norm, eps = norm or NO_NORM
        kind = by_row, groups, mirrored
        end = *of_norm, eps, residual, relu, y, torch.get_num_threads(), kept(weight)
        if _native.conv_at_once(features, weight, bias, *rulebook, *kind, *end):
            return y
    features = (spaced if groups == 1 else rows)("features", features)
    in_rows, out_rows = pairs(*rulebook[:2])
    segments, taps = taps_of(rulebook[2])
    by_row = listed(by_row, in_rows.shape[0], num_out)
    dtype, (num_in, channels), width = features.dtype, features.shape, weight.shape[-1]
    wide_weight = weight.dtype != dtype
    if (wide_weight and weight.dtype != accumulator(dtype)) or not weight.is_cpu:
        raise TypeError(complain("weight", f"{dtype} on cpu", f"{weight.dtype} {weight.device}"))
    if groups < 1 or channels % groups or width % groups:
        raise ValueError(complain("groups", f"a divisor of {channels} and {width}", str(groups)))
    if weight.shape != (taps, channels // groups, width):
        raise ValueError(
            complain("weight", f"{[taps, channels // groups, width]}", f"{list(weight.shape)}")
        )
    if bias is not None:
        bias = dense("bias", bias, dtype, 1)
        if bias.shape[0] != width:
            raise ValueError(complain("bias", f"[{width}]", f"{list(bias.shape)}"))
    eps, of_norm = 0.0, (None,) * len(NORM)
    if norm is not None:
        *of_norm, eps = norm
        of_norm = columns(width, accumulator(dtype), zip(NORM, of_norm, strict=True))
    if residual is not None:
        residual = dense("residual", residual, dtype, 2)
        wanted = (num_out if parents is None else residual.shape[0], y.shape[1])
        if residual.shape != wanted:
            raise ValueError(complain("residual", f"{list(wanted)}", f"{list(residual.shape)}"))
    if parents is not None:
        parents = dense("parents", parents, torch.int32, 1)
        if parents.shape[0] != num_out:
            raise ValueError(complain("parents", f"{num_out} rows", f"{parents.shape[0]}"))
    if counts is not None:
        counts = dense("counts", counts, torch.int64, 1)
        if counts.shape[0] != residual.shape[0]:
            raise ValueError(complain("counts", f"{residual.shape[0]} rows", f"{counts.shape[0]}"))
    first, (step, *steps) = weight.data_ptr(), weight.stride()
    if mirrored and taps:
        first, step = first + (taps - 1) * step * weight.element_size(), -step
    _native.conv(
        DTYPES[dtype],
        num_in,
        num_out,
        channels,
        width,
        groups,
        features.data_ptr(),
        features.stride(0) if groups == 1 else channels,
        first,
        wide_weight,
        step,
        *steps,
        0 if bias is None else bias.data_ptr(),
        in_rows.data_ptr(),
        out_rows.data_ptr(),
        segments.data_ptr(),
        taps,
        in_rows.shape[0],
        0 if by_row is None else by_row.data_ptr(),
        *map(address, of_norm),
        eps,
        0 if residual is None else residual.data_ptr(),
        0 if residual is None else residual.shape[1],
        0 if parents is None else parents.data_ptr(),
        0 if counts is None else counts.data_ptr(),
        0 if residual is None else residual.shape[0],
        0 if residual is None else residual.shape[1],
        relu,
        y.data_ptr(),
        y.stride(0) if groups == 1 else width,
        torch.get_num_threads(),
    )
    return y


def conv_grad_weight(
    features: Tensor,  # [N, C]
    grad: Tensor,  # [M, D]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    groups: int,
    symmetric: bool = False,
    mirrored: bool = False,
    unrounded: bool = False,
    by_row: Tensor | None = None,  # [M + P + 69] int64
) -> Tensor:  # [K, C / G, D]
    """Return `dW[t] = sum over pairs (i, o) of tap t of x[i]^T g[o]`, group by group."""
    grad_weight = None
    fits = features.dim() == grad.dim() == 2 and segments.dim() == 1
    if groups > 0 and fits and segments.shape[0]:
        dtype = accumulator(features.dtype) if unrounded else features.dtype
        shape = segments.shape[0] - 1, features.shape[1] // groups, grad.shape[1]
        grad_weight = features.new_empty(shape, dtype=dtype)
        kind = by_row, groups, grad_weight, torch.get_num_threads()
        if _native.conv_grad_weight_at_once(features, grad, in_rows, out_rows, segments, *kind):
            return grad_weight.flip(0) if mirrored else grad_weight
    apart = spaced if groups == 1 else rows
    features = apart("features", features)
    grad = apart("grad", grad, features.dtype)
    in_rows, out_rows = pairs(in_rows, out_rows)
    segments, taps = taps_of(segments)
    (num_in, channels), (num_out, width) = features.shape, grad.shape
    by_row = listed(by_row, in_rows.shape[0], num_out)
    if groups < 1 or channels % groups or width % groups:
        raise ValueError(complain("groups", f"a divisor of {channels} and {width}", str(groups)))
    unrounded = grad_weight.dtype != features.dtype
    _native.conv_grad_weight(
        DTYPES[features.dtype],
        num_in,
        num_out,
        channels,
        width,
        groups,
        features.data_ptr(),
        features.stride(0) if groups == 1 else channels,
        grad.data_ptr(),
        grad.stride(0) if groups == 1 else width,
        in_rows.data_ptr(),
        out_rows.data_ptr(),
        segments.data_ptr(),
        taps,
        in_rows.shape[0],
        0 if by_row is None else by_row.data_ptr(),
        grad_weight.data_ptr(),
        unrounded,
        torch.get_num_threads(),
    )
    return grad_weight.flip(0) if mirrored else grad_weight
