"""What: batch norm of rows, fused with the residual sum and the ReLU that may follow it."""

from typing import NamedTuple

import torch
from torch import Tensor

from sparseconv.backends.reference import norm as reference
from sparseconv.backends.reference.conv import accumulator
from sparseconv.ops._checks import check_columns, check_features, check_residual
from sparseconv.ops._registry import compiled, define


def _fake_stats(x):
    wide = accumulator(x.dtype)
    return x.new_empty(x.shape[1], dtype=wide), x.new_empty(x.shape[1], dtype=wide)


def _fake_batch_norm(x, weight, bias, residual, eps, relu):
    return x.new_empty(x.shape), *_fake_stats(x)


def _fake_norm_apply(x, mean, var, weight, bias, residual, eps, relu):
    return x.new_empty(x.shape)


def _fake_norm_grad(grad, x, y, mean, var, weight, bias, eps, relu, batch):
    return x.new_empty(x.shape), *_fake_stats(x), x.new_empty(0 if y is None else x.shape)


def _setup_batch_norm(ctx, inputs, output):
    x, weight, bias, residual, ctx.eps, ctx.relu = inputs
    y, mean, var = output
    ctx.added = residual is not None
    # without a residual the mask of the ReLU is made of x again
    ctx.save_for_backward(x, y if ctx.added and ctx.relu else None, mean, var, weight, bias)
    ctx.set_materialize_grads(False)


def _batch_norm_backward(ctx, grad, grad_mean, grad_var):
    return *through_batch_norm(ctx, ctx.saved_tensors, grad, grad_mean, grad_var), None, None


def through_batch_norm(ctx, saved, grad, grad_mean, grad_var):
    """Return the gradients of `x`, weight, bias and residual of an op that normalised."""
    x, y, mean, var, weight, bias = saved
    to_x = to_weight = to_bias = to_residual = None
    if grad is not None:
        made = _norm_grad(grad, x, y, mean, var, weight, bias, ctx.eps, ctx.relu, True)
        to_x, to_weight, to_bias, to_residual = made
        if ctx.added and not ctx.relu:
            to_residual = grad
    count = max(x.shape[0], 1)
    if grad_mean is not None:
        more = (grad_mean / count).to(x.dtype).expand_as(x)
        to_x = more if to_x is None else to_x + more
    if grad_var is not None:
        more = ((x.to(mean.dtype) - mean) * (grad_var * (2 / count))).to(x.dtype)
        to_x = more if to_x is None else to_x + more
    return (
        to_x,
        None if weight is None else to_weight,
        None if bias is None else to_bias,
        to_residual if ctx.added else None,
    )


def _setup_norm_apply(ctx, inputs, output):
    x, mean, var, weight, bias, residual, ctx.eps, ctx.relu = inputs
    ctx.added = residual is not None
    ctx.save_for_backward(x, output if ctx.added and ctx.relu else None, mean, var, weight, bias)


def _norm_apply_backward(ctx, grad):
    x, y, mean, var, weight, bias = ctx.saved_tensors
    made = _norm_grad(grad, x, y, mean, var, weight, bias, ctx.eps, ctx.relu, False)
    to_x, to_weight, to_bias, to_residual = made
    to_mean = to_var = None
    rstd = torch.rsqrt(var + ctx.eps)
    scale = rstd if weight is None else rstd * weight
    if ctx.needs_input_grad[1]:
        to_mean = -scale * to_bias
    if ctx.needs_input_grad[2]:
        to_var = -0.5 * scale * rstd * to_weight
    return (
        to_x,
        to_mean,
        to_var,
        None if weight is None else to_weight,
        None if bias is None else to_bias,
        (to_residual if ctx.relu else grad) if ctx.added else None,
        None,
        None,
    )


def _setup_norm_grad(ctx, inputs, output):
    *tensors, ctx.eps, ctx.relu, ctx.batch = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _norm_grad_backward(ctx, by_x, by_weight, by_bias, by_residual):
    grad, x, y, mean, var, weight, bias = ctx.saved_tensors
    wide = mean.dtype
    rstd = torch.rsqrt(var + ctx.eps)
    scale = rstd if weight is None else rstd * weight
    apart = x.to(wide) - mean
    mask = (mean, var, weight, bias, ctx.eps, ctx.relu)
    passed = reference.let_through(grad, x, y, *mask)
    share = 1 / max(x.shape[0], 1) if ctx.batch else 0
    # the op is made of two sums over rows, a of `passed` and b of `passed * apart * rstd`
    a, b = passed.sum(0), (passed * apart).sum(0) * rstd
    none = torch.zeros_like(mean)
    by_a = none if by_bias is None else by_bias
    by_b = none if by_weight is None else by_weight
    # without y there is no residual: that output is empty
    through = by_residual is not None and y is not None
    to_passed = by_residual.to(wide) if through else torch.zeros_like(passed)
    to_apart = to_rstd = to_scale = None
    if by_x is not None:
        v = by_x.to(wide)
        v_sum, v_dot = v.sum(0), (v * apart).sum(0)
        by_a = by_a - scale * v_sum * share
        by_b = by_b - scale * rstd * v_dot * share
        to_passed = to_passed + scale * v
        to_apart = v * (-scale * rstd * b * share)
        to_scale = (v * passed).sum(0) - (v_sum * a + v_dot * rstd * b) * share
        to_rstd = -scale * b * v_dot * share
    to_passed = to_passed + by_a + apart * (rstd * by_b)
    through_b = passed * (rstd * by_b)
    to_apart = through_b if to_apart is None else to_apart + through_b
    by_b_rstd = by_b * (passed * apart).sum(0)
    to_rstd = by_b_rstd if to_rstd is None else to_rstd + by_b_rstd
    to_weight = None
    if to_scale is not None:
        to_rstd = to_rstd + (to_scale if weight is None else to_scale * weight)
        to_weight = None if weight is None else to_scale * rstd
    return (
        reference.let_through(to_passed, x, y, *mask).to(grad.dtype),
        to_apart.to(x.dtype),
        None,
        -to_apart.sum(0),
        to_rstd * (-0.5 * rstd**3),
        to_weight,
        None,
        None,
        None,
        None,
    )


def _check_batch_norm(x, weight, bias, residual, eps, relu):
    check_features("x", x)
    check_residual(residual, x, *x.shape, "N")
    check_columns(x, x.shape[1], weight=weight, bias=bias)


def _check_norm_apply(x, mean, var, weight, bias, residual, eps, relu):
    check_features("x", x)
    check_residual(residual, x, *x.shape, "N")
    check_columns(x, x.shape[1], mean=mean, var=var, weight=weight, bias=bias)


_batch_norm = define(
    "batch_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, float eps, bool relu) "
    "-> (Tensor, Tensor, Tensor)",
    reference=reference.batch_norm,
    compiled=compiled("norm", "batch_norm"),
    fake=_fake_batch_norm,
    setup=_setup_batch_norm,
    backward=_batch_norm_backward,
    check=_check_batch_norm,
)
_norm_apply = define(
    "norm_apply(Tensor x, Tensor mean, Tensor var, Tensor? weight, Tensor? bias, "
    "Tensor? residual, float eps, bool relu) -> Tensor",
    reference=reference.norm_apply,
    compiled=compiled("norm", "norm_apply"),
    fake=_fake_norm_apply,
    setup=_setup_norm_apply,
    backward=_norm_apply_backward,
    check=_check_norm_apply,
)
_norm_grad = define(
    "norm_grad(Tensor grad, Tensor x, Tensor? y, Tensor mean, Tensor var, Tensor? weight, "
    "Tensor? bias, float eps, bool relu, bool batch) -> (Tensor, Tensor, Tensor, Tensor)",
    reference=reference.norm_grad,
    compiled=compiled("norm", "norm_grad"),
    fake=_fake_norm_grad,
    setup=_setup_norm_grad,
    backward=_norm_grad_backward,
)


class Normalize(NamedTuple):
    """What normalises rows: `(x - mean) / sqrt(var + eps) * weight + bias`, channel by channel."""

    mean: Tensor  # [C]
    var: Tensor  # [C]
    weight: Tensor | None  # [C]
    bias: Tensor | None  # [C]
    eps: float


class Learned(NamedTuple):
    """What acts on rows that are normalised by their own statistics: `y * scale + shift`."""

    scale: Tensor | None  # [C]
    shift: Tensor | None  # [C]
    eps: float


def per_channel(features: Tensor, *columns: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return values per channel in the dtype of sums; what has another one is left to the op."""
    narrow = features.dtype
    wide = accumulator(narrow)
    if narrow == wide:
        return columns
    for value in columns:
        if value is not None and value.dtype == narrow:
            return tuple(
                value.to(wide) if value is not None and value.dtype == narrow else value
                for value in columns
            )
    return columns


def batch_norm(
    x: Tensor,  # [N, C]
    weight: Tensor | None,  # [C]
    bias: Tensor | None,  # [C]
    residual: Tensor | None = None,  # [N, C]
    *,
    eps: float = 1e-5,
    relu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # [N, C], [C], [C]
    """Normalise each channel by the statistics of its rows.

    `y = relu((x - mean) / sqrt(var + eps) * weight + bias + residual)`, mean and biased variance
    being those of the rows of `x`, 0 where there are none.

    Args:
        x: float [N, C].
        weight: [C], of x's dtype or that of its sums (float64 for float64, else float32); or None.
        bias: likewise.
        residual: x's dtype, [N, C], added before the ReLU; or None.
        eps: added to the variance.
        relu: whether to clip below at 0; its gradient at 0 is 0.

    Returns:
        y, x's dtype, [N, C]; mean and variance [C] in the dtype of sums. Differentiable twice.

    Raises:
        TypeError: dtypes or devices do not fit.
        ValueError: rows or channels differ.

    Source:
        Ioffe and Szegedy, "Batch Normalization", arXiv:1502.03167.
    """
    weight, bias = per_channel(x, weight, bias)
    return _batch_norm(x, weight, bias, residual, eps, relu)


def norm_apply(
    x: Tensor,  # [N, C]
    mean: Tensor,  # [C]
    var: Tensor,  # [C]
    weight: Tensor | None,  # [C]
    bias: Tensor | None,  # [C]
    residual: Tensor | None = None,  # [N, C]
    *,
    eps: float = 1e-5,
    relu: bool = False,
) -> Tensor:  # [N, C]
    """Normalise each channel by given statistics.

    `y = relu((x - mean) / sqrt(var + eps) * weight + bias + residual)`.

    Args:
        x: float [N, C].
        mean: [C], of x's dtype or that of its sums.
        var: likewise.
        weight: likewise, or None.
        bias: likewise, or None.
        residual: x's dtype, [N, C], added before the ReLU; or None.
        eps: added to the variance.
        relu: whether to clip below at 0; its gradient at 0 is 0.

    Returns:
        x's dtype, [N, C]. Differentiable twice.

    Raises:
        TypeError: dtypes or devices do not fit.
        ValueError: rows or channels differ.
    """
    mean, var, weight, bias = per_channel(x, mean, var, weight, bias)
    return _norm_apply(x, mean, var, weight, bias, residual, eps, relu)
