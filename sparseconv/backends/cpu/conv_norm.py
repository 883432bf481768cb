"""A convolution and the batch norm of its result, one behind the other, and their gradients."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv.backends.cpu.conv import conv, conv_grad_weight
from sparseconv.backends.cpu.norm import batch_norm, norm_grad
from sparseconv.backends.reference import conv_norm as reference
from sparseconv.backends.reference.conv import accumulator


def conv_norm(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
    groups: int,
    symmetric: bool,
    by_row: Tensor | None,  # [M + P + 69] int64
    scale: Tensor | None,  # [D]
    shift: Tensor | None,  # [D]
    residual: Tensor | None,  # [M, D]
    eps: float,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # [M, D], [M, D], [D], [D]
    """Return `batch_norm` of what `conv` gives, that itself, and the statistics of its rows."""
    rulebook = in_rows, out_rows, segments
    width, wide = weight.shape[-1], accumulator(features.dtype)
    residual = None if residual is None else residual.contiguous()
    x, y = features.new_empty(num_out, width), features.new_empty(num_out, width)
    mean, var = (features.new_empty(width, dtype=wide) for _ in range(2))
    of_conv = features, weight, bias, *rulebook, by_row, groups
    made = x, mean, var, y, torch.get_num_threads()
    if _native.conv_norm_at_once(*of_conv, scale, shift, eps, residual, relu, *made):
        return y, x, mean, var
    del x, y, made
    kind = groups, symmetric, False, by_row
    x = conv(features, weight, bias, *rulebook, num_out, *kind)
    y, mean, var = batch_norm(x, scale, shift, residual, eps, relu)
    return y, x, mean, var


def conv_norm_grad(
    grad: Tensor,  # [M, D]
    features: Tensor,  # [N, C]
    swapped: Tensor,  # [K, D / G, C]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    groups: int,
    symmetric: bool,
    by_row: Tensor | None,  # [M + P + 69] int64
    x: Tensor,  # [M, D]
    y: Tensor | None,  # [M, D]
    mean: Tensor,  # [D]
    var: Tensor,  # [D]
    scale: Tensor | None,  # [D]
    shift: Tensor | None,  # [D]
    eps: float,
    relu: bool,
    of_features: bool,
    of_weight: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of features, weight, scale, shift and residual, empty if not wanted."""
    grad = grad.contiguous()
    to_x, to_residual = x.new_empty(x.shape), x.new_empty(0 if y is None else x.shape)
    to_scale, to_shift = (x.new_empty(mean.shape, dtype=mean.dtype) for _ in range(2))
    to_features = features.new_empty(features.shape if of_features else 0)
    shape = segments.shape[0] - 1, features.shape[1] // groups, x.shape[1]
    to_weight = features.new_empty(shape if of_weight else 0, dtype=swapped.dtype)
    given = grad, x, y, mean, var, scale, shift, eps, relu
    of_norm = *given, to_x, to_scale, to_shift, to_residual
    rulebook = in_rows, out_rows, segments
    of_conv = features, swapped, *rulebook, by_row, groups, symmetric
    wanted = to_features if of_features else None, to_weight if of_weight else None
    if _native.conv_norm_grad_at_once(*of_norm, *of_conv, *wanted, torch.get_num_threads()):
        return to_features, to_weight, to_scale, to_shift, to_residual
    del of_norm, wanted, to_x, to_residual, to_features, to_weight
    return reference.conv_norm_grad(
        grad,
        features,
        swapped,
        *rulebook,
        groups,
        symmetric,
        by_row,
        *given[1:],
        of_features,
        of_weight,
        conv=conv,
        conv_grad_weight=conv_grad_weight,
        norm_grad=norm_grad,
    )
