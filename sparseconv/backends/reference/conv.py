"""Gather-GEMM-scatter in plain torch, tap by tap."""

import torch
from torch import Tensor

from sparseconv.backends.reference.pairs import pair_bounds, rows_within


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype sums are kept in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


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
    by_row: Tensor | None = None,
) -> Tensor:  # [M, D]
    """Return `y[o] = bias + sum over pairs (i, o) of tap t of x[i] W[t]`, group by group."""
    weight = weight.flip(0) if mirrored else weight
    rulebook = in_rows, out_rows, segments
    return _sums(features, weight, bias, *rulebook, num_out, groups).to(features.dtype)


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
    by_row: Tensor | None = None,
) -> Tensor:  # [M, D]
    """Return `conv`, normalised where there is a mean, plus the residual, clipped with `relu`."""
    y = _sums(features, weight, bias, in_rows, out_rows, segments, num_out, groups)
    if mean is not None:
        y = normalised(y, mean, var, norm_weight, norm_bias, eps)
    if residual is not None:
        y = y + residual.to(y.dtype)
    return (y.relu() if relu else y).to(features.dtype)


def normalised(
    x: Tensor,  # [N, C]
    mean: Tensor,  # [C]
    var: Tensor,  # [C]
    weight: Tensor | None,  # [C]
    bias: Tensor | None,  # [C]
    eps: float,
) -> Tensor:  # [N, C]
    """Return `(x - mean) / sqrt(var + eps) * weight + bias`, in the dtype of the mean."""
    y = (x.to(mean.dtype) - mean) * torch.rsqrt(var + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _sums(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
    groups: int,
) -> Tensor:  # [M, D]
    """Return the sums of a convolution, not yet rounded to the dtype of features."""
    wide = accumulator(features.dtype)
    x, w = features.to(wide), weight.to(features.dtype).to(wide)
    taps, per_group, width = w.shape
    y = torch.zeros(num_out, width, dtype=wide, device=features.device)
    inputs = rows_within("in_rows", in_rows, x.shape[0])
    outputs = rows_within("out_rows", out_rows, num_out)
    bounds = pair_bounds(segments, in_rows.shape[0], partly=True)
    for t in range(taps):
        pairs = slice(bounds[t], bounds[t + 1])
        gathered = x[inputs[pairs]].reshape(-1, groups, per_group)
        by_group = w[t].reshape(per_group, groups, width // groups)
        product = torch.einsum("pgc,cgd->pgd", gathered, by_group).reshape(-1, width)
        y.index_add_(0, outputs[pairs], product)
    return y if bias is None else y + bias.to(wide)


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
    by_row: Tensor | None = None,
) -> Tensor:  # [K, C / G, D]
    """Return `dW[t] = sum over pairs (i, o) of tap t of x[i]^T g[o]`, group by group."""
    wide = accumulator(features.dtype)
    x, g = features.to(wide), grad.to(wide)
    taps = segments.shape[0] - 1
    per_group, width = x.shape[1] // groups, g.shape[1]
    out = torch.zeros(taps, per_group, width, dtype=wide, device=features.device)
    inputs = rows_within("in_rows", in_rows, x.shape[0])
    outputs = rows_within("out_rows", out_rows, g.shape[0])
    bounds = pair_bounds(segments, in_rows.shape[0], partly=True)
    for t in range(taps):
        pairs = slice(bounds[t], bounds[t + 1])
        left = x[inputs[pairs]].reshape(-1, groups, per_group)
        right = g[outputs[pairs]].reshape(-1, groups, width // groups)
        out[t] = torch.einsum("pgc,pgd->cgd", left, right).reshape(per_group, width)
    return (out.flip(0) if mirrored else out).to(wide if unrounded else features.dtype)
