"""Gather-GEMM-scatter by output tiles, and the weight gradient."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import DTYPES, dense, pairs, rows, taps_of
from sparseconv.backends.cpu.row_list import listed
from sparseconv.backends.reference.conv import accumulator


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
    return _run(
        features,
        weight,
        bias,
        None,
        False,
        in_rows,
        out_rows,
        segments,
        num_out,
        groups,
        by_row,
        mirrored=mirrored,
    )


def conv_fused(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    residual: Tensor | None,  # [M, D]
    relu: bool,
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
    groups: int,
    by_row: Tensor | None = None,  # [M + P + 69] int64
) -> Tensor:  # [M, D]
    """Return `conv` plus the residual, and with `relu` the larger of that and 0."""
    return _run(
        features,
        weight,
        bias,
        residual,
        relu,
        in_rows,
        out_rows,
        segments,
        num_out,
        groups,
        by_row,
        mirrored=False,
    )


def _run(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    residual: Tensor | None,  # [M, D]
    relu: bool,
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
    groups: int,
    by_row: Tensor | None,  # [M + P + 69] int64
    *,
    mirrored: bool,
) -> Tensor:  # [M, D]
    features = rows("features", features)
    in_rows, out_rows = pairs(in_rows, out_rows)
    segments, taps = taps_of(segments)
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
    if residual is not None:
        residual = dense("residual", residual, dtype, 2)
        if residual.shape != (num_out, width):
            raise ValueError(complain("residual", f"{[num_out, width]}", f"{list(residual.shape)}"))
    y = features.new_empty(num_out, width)
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
        0 if residual is None else residual.data_ptr(),
        relu,
        y.data_ptr(),
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
    features = rows("features", features)
    grad = rows("grad", grad, features.dtype)
    in_rows, out_rows = pairs(in_rows, out_rows)
    segments, taps = taps_of(segments)
    (num_in, channels), (num_out, width) = features.shape, grad.shape
    by_row = listed(by_row, in_rows.shape[0], num_out)
    if groups < 1 or channels % groups or width % groups:
        raise ValueError(complain("groups", f"a divisor of {channels} and {width}", str(groups)))
    wide = accumulator(features.dtype)
    unrounded = unrounded and wide != features.dtype
    grad_weight = features.new_empty(
        taps, channels // groups, width, dtype=wide if unrounded else features.dtype
    )
    _native.conv_grad_weight(
        DTYPES[features.dtype],
        num_in,
        num_out,
        channels,
        width,
        groups,
        features.data_ptr(),
        grad.data_ptr(),
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
