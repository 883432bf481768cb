"""A convolution and the batch norm of its result in plain torch, and their gradients."""

from collections.abc import Callable

from torch import Tensor

from sparseconv.backends.reference.conv import conv, conv_grad_weight
from sparseconv.backends.reference.norm import batch_norm, norm_grad


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
    by_row: Tensor | None,
    scale: Tensor | None,  # [D]
    shift: Tensor | None,  # [D]
    residual: Tensor | None,  # [M, D]
    eps: float,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # [M, D], [M, D], [D], [D]
    """Return `batch_norm` of what `conv` gives, that itself, and the statistics of its rows."""
    x = conv(features, weight, bias, in_rows, out_rows, segments, num_out, groups)
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
    by_row: Tensor | None,
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
    *,
    conv: Callable = conv,
    conv_grad_weight: Callable = conv_grad_weight,
    norm_grad: Callable = norm_grad,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of features, weight, scale, shift and residual, empty if not wanted.

    Another backend has its own convolution, weight gradient and norm's gradient to make them of.
    """
    made = norm_grad(grad, x, y, mean, var, scale, shift, eps, relu, True)
    to_x, to_scale, to_shift, to_residual = made
    to_features, to_weight = features.new_empty(0), swapped.new_empty(0)
    if of_features:
        rows = (in_rows, out_rows) if symmetric else (out_rows, in_rows)
        kind = groups, symmetric, symmetric, by_row if symmetric else None
        to_features = conv(to_x, swapped, None, *rows, segments, features.shape[0], *kind)
    if of_weight:
        kind = groups, symmetric, False, swapped.dtype != features.dtype, by_row
        to_weight = conv_grad_weight(features, to_x, in_rows, out_rows, segments, *kind)
    return to_features, to_weight, to_scale, to_shift, to_residual
