"""What: a convolution and the batch norm of its result, as a training step has them."""

import torch
from torch import Tensor

from sparseconv.backends.reference import conv_norm as reference
from sparseconv.backends.reference.conv import accumulator
from sparseconv.ops._checks import check_columns, check_conv, check_pairs, check_residual
from sparseconv.ops._registry import compiled, define
from sparseconv.ops.conv import cast_to_autocast, through_conv, transpose_weight
from sparseconv.ops.norm import per_channel, through_batch_norm

# Two ops would do; one is a third less to do outside of kernels. The convolution's own result is an
# output, too: the gradient of the norm reads it, and through it goes a second derivative.


def _fake_conv_norm(
    features,
    weight,
    bias,
    in_rows,
    out_rows,
    segments,
    num_out,
    groups,
    symmetric,
    by_row,
    scale,
    shift,
    residual,
    eps,
    relu,
):
    rows = features.new_empty(num_out, weight.shape[2])
    wide = accumulator(features.dtype)
    mean, var = (rows.new_empty(weight.shape[2], dtype=wide) for _ in range(2))
    return rows, torch.empty_like(rows), mean, var


def _setup_conv_norm(ctx, inputs, output):
    features, weight, bias, in_rows, out_rows, segments, _, groups, symmetric, by_row = inputs[:10]
    scale, shift, residual, ctx.eps, ctx.relu = inputs[10:]
    y, x, mean, var = output
    ctx.kind, ctx.has_bias = (groups, symmetric, False), bias is not None
    ctx.added = residual is not None
    y = y if ctx.added and ctx.relu else None
    book = in_rows, out_rows, segments, by_row
    ctx.save_for_backward(features, weight, *book, x, y, mean, var, scale, shift)
    ctx.set_materialize_grads(False)


def _conv_norm_backward(ctx, grad, grad_x, grad_mean, grad_var):
    saved = ctx.saved_tensors
    alone = grad is not None and grad_x is None and grad_mean is None and grad_var is None
    of_bias = ctx.has_bias and ctx.needs_input_grad[2]
    # what is differentiated again has to be made of ops that can be
    if alone and not of_bias and not torch.is_grad_enabled():
        return _all_at_once(ctx, saved, grad)
    grads = grad, grad_mean, grad_var
    to_x, to_scale, to_shift, to_residual = through_batch_norm(ctx, saved[6:], *grads)
    if grad_x is not None:
        to_x = grad_x if to_x is None else to_x + grad_x
    of_conv = (None, None, None) if to_x is None else through_conv(ctx, saved[:6], to_x)
    return *of_conv, *[None] * 7, to_scale, to_shift, to_residual, None, None


def _all_at_once(ctx, saved, grad):
    features, weight, in_rows, out_rows, segments, by_row, *of_norm = saved
    need_features, need_weight = ctx.needs_input_grad[:2]
    swapped, kind = transpose_weight(weight, ctx.kind[0]), ctx.kind[:2]
    book = in_rows, out_rows, segments, *kind, by_row
    end = ctx.eps, ctx.relu, need_features, need_weight
    made = _conv_norm_grad(grad, features, swapped, *book, *of_norm, *end)
    to_features, to_weight, to_scale, to_shift, to_residual = made
    if not ctx.added:
        to_residual = None
    elif not ctx.relu:
        to_residual = grad
    return (
        to_features if need_features else None,
        to_weight if need_weight else None,
        *[None] * 8,
        None if of_norm[4] is None else to_scale,
        None if of_norm[5] is None else to_shift,
        to_residual,
        None,
        None,
    )


def _fake_conv_norm_grad(
    grad,
    features,
    swapped,
    in_rows,
    out_rows,
    segments,
    groups,
    symmetric,
    by_row,
    x,
    y,
    mean,
    var,
    scale,
    shift,
    eps,
    relu,
    of_features,
    of_weight,
):
    shape = segments.shape[0] - 1, features.shape[1] // groups, x.shape[1]
    return (
        features.new_empty(features.shape if of_features else 0),
        swapped.new_empty(shape if of_weight else 0),
        torch.empty_like(mean),
        torch.empty_like(var),
        x.new_empty(0 if y is None else x.shape),
    )


def _check_conv_norm(
    features,
    weight,
    bias,
    in_rows,
    out_rows,
    segments,
    num_out,
    groups,
    symmetric,
    by_row,
    scale,
    shift,
    residual,
    eps,
    relu,
):
    check_conv(features, weight, bias, segments, groups)
    check_pairs(in_rows, out_rows)
    check_residual(residual, features, num_out, weight.shape[2])
    check_columns(features, weight.shape[2], scale=scale, shift=shift)


_conv_norm = define(
    "conv_norm(Tensor features, Tensor weight, Tensor? bias, Tensor in_rows, Tensor out_rows, "
    "Tensor segments, SymInt num_out, int groups, bool symmetric, Tensor? by_row, Tensor? scale, "
    "Tensor? shift, Tensor? residual, float eps, bool relu) -> (Tensor, Tensor, Tensor, Tensor)",
    reference=reference.conv_norm,
    compiled=compiled("conv_norm", "conv_norm"),
    fake=_fake_conv_norm,
    setup=_setup_conv_norm,
    backward=_conv_norm_backward,
    check=_check_conv_norm,
)

_conv_norm_grad = define(
    "conv_norm_grad(Tensor grad, Tensor features, Tensor swapped, Tensor in_rows, Tensor out_rows, "
    "Tensor segments, int groups, bool symmetric, Tensor? by_row, Tensor x, Tensor? y, "
    "Tensor mean, Tensor var, Tensor? scale, Tensor? shift, float eps, bool relu, "
    "bool of_features, bool of_weight) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    reference=reference.conv_norm_grad,
    compiled=compiled("conv_norm", "conv_norm_grad"),
    fake=_fake_conv_norm_grad,
)


def conv_norm(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
    groups: int = 1,
    *,
    symmetric: bool = False,
    by_row: Tensor | None = None,  # [M + P + 69] int64
    scale: Tensor | None = None,  # [D]
    shift: Tensor | None = None,  # [D]
    residual: Tensor | None = None,  # [M, D]
    eps: float = 1e-5,
    relu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # [M, D], [D], [D]
    """Convolve over the pairs of a rulebook and normalise each channel by its own statistics.

    `y = relu((x - mean) / sqrt(var + eps) * scale + shift + residual)`, x being what `conv` makes
    of the arguments, rounded to its dtype, mean and biased variance those of its rows. Under
    autocast as `conv`. Differentiable twice.

    Args:
        features: as for `conv`, and so all up to `by_row`.
        weight: [K, C / G, D].
        bias: [D], or None.
        in_rows: int32 [P].
        out_rows: int32 [P].
        segments: int64 [K + 1].
        num_out: output rows M.
        groups: G.
        symmetric: as for `conv`.
        by_row: as for `conv`.
        scale: [D], of the dtype of features or that of their sums; or None.
        shift: likewise.
        residual: same dtype as features, [M, D], added before the ReLU; or None.
        eps: added to the variance.
        relu: whether to clip below at 0; its gradient at 0 is 0.

    Returns:
        y [M, D]; mean and variance [D] in the dtype of sums.

    Raises:
        TypeError: dtypes or devices differ.
        ValueError: channels, groups, taps or rows do not fit each other.

    Source:
        Graham, Engelcke, van der Maaten, arXiv:1711.10275, section 3; Ioffe and Szegedy,
        arXiv:1502.03167.
    """
    features, weight, bias, residual = cast_to_autocast(features, weight, bias, residual)
    scale, shift = per_channel(features, scale, shift)
    book = in_rows, out_rows, segments, num_out, groups, symmetric, by_row
    y, _, mean, var = _conv_norm(features, weight, bias, *book, scale, shift, residual, eps, relu)
    return y, mean, var
