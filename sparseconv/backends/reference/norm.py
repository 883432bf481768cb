"""Batch norm of rows in plain torch, with the residual sum and the ReLU that may follow it."""

import torch
from torch import Tensor

from sparseconv.backends.reference.conv import accumulator, normalised


def norm_stats(
    x: Tensor,  # [N, C]
) -> tuple[Tensor, Tensor]:  # [C], [C]
    """Return mean and biased variance of each column, 0 where there are no rows."""
    wide = x.to(accumulator(x.dtype))
    count = max(x.shape[0], 1)
    mean = wide.sum(0) / count
    return mean, (wide - mean).square().sum(0) / count


def norm_apply(
    x: Tensor,  # [N, C]
    mean: Tensor,  # [C]
    var: Tensor,  # [C]
    weight: Tensor | None,  # [C]
    bias: Tensor | None,  # [C]
    residual: Tensor | None,  # [N, C]
    eps: float,
    relu: bool,
) -> Tensor:  # [N, C]
    """Return `(x - mean) / sqrt(var + eps) * weight + bias + residual`, clipped below at 0."""
    y = normalised(x, mean, var, weight, bias, eps)
    if residual is not None:
        y = y + residual.to(mean.dtype)
    return (y.relu() if relu else y).to(x.dtype)


def batch_norm(
    x: Tensor,  # [N, C]
    weight: Tensor | None,  # [C]
    bias: Tensor | None,  # [C]
    residual: Tensor | None,  # [N, C]
    eps: float,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # [N, C], [C], [C]
    """Return `norm_apply` with the statistics of `x` itself, and these."""
    mean, var = norm_stats(x)
    return norm_apply(x, mean, var, weight, bias, residual, eps, relu), mean, var


def norm_grad(
    grad: Tensor,  # [N, C]
    x: Tensor,  # [N, C]
    y: Tensor | None,  # [N, C]
    mean: Tensor,  # [C]
    var: Tensor,  # [C]
    weight: Tensor | None,  # [C]
    bias: Tensor | None,  # [C]
    eps: float,
    relu: bool,
    batch: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # [N, C], [C], [C], [N, C] or [0]
    """Return the gradients of x, weight, bias and, where its output `y` is given, the residual."""
    wide = mean.dtype
    passed = let_through(grad, x, y, mean, var, weight, bias, eps, relu)
    rstd = torch.rsqrt(var + eps)
    apart = x.to(wide) - mean
    to_bias, to_weight = passed.sum(0), (passed * apart).sum(0) * rstd
    inner = passed
    if batch:
        count = max(x.shape[0], 1)
        inner = inner - to_bias / count - apart * rstd * to_weight / count
    scale = rstd if weight is None else rstd * weight
    to_residual = x.new_empty(0) if y is None else passed.to(x.dtype)
    return (inner * scale).to(x.dtype), to_weight, to_bias, to_residual


def let_through(
    grad: Tensor,  # [N, C]
    x: Tensor,  # [N, C]
    y: Tensor | None,  # [N, C]
    mean: Tensor,  # [C]
    var: Tensor,  # [C]
    weight: Tensor | None,  # [C]
    bias: Tensor | None,  # [C]
    eps: float,
    relu: bool,
) -> Tensor:  # [N, C]
    """Return the gradient before the ReLU: 0 where its output is not above 0."""
    passed = grad.to(mean.dtype)
    if not relu:
        return passed
    out = norm_apply(x, mean, var, weight, bias, None, eps, False) if y is None else y
    return torch.where(out <= 0, 0, passed)
