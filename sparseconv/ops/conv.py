"""What: gather-GEMM-scatter over a rulebook, and its weight gradient."""

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import conv as reference
from sparseconv.backends.reference.conv import accumulator
from sparseconv.ops._checks import (
    check_columns,
    check_conv,
    check_features,
    check_pairs,
    check_residual,
    check_same_dtype,
)
from sparseconv.ops._registry import compiled, define
from sparseconv.ops.norm import Normalize, norm_apply, per_channel

NO_NORM = (None, None, None, None, 0.0)


def transpose_weight(
    weight: Tensor,  # [K, C / G, D]
    groups: int,
) -> Tensor:  # [K, D / G, C]
    """Exchange input and output channels within each group."""
    if groups == 1:
        return weight.transpose(1, 2)
    taps, per_group, width = weight.shape
    by_group = weight.reshape(taps, per_group, groups, width // groups)
    return by_group.permute(0, 3, 2, 1).reshape(taps, width // groups, groups * per_group)


# The weight may have the dtype of sums, as under autocast: it is then rounded while it is packed,
# and its gradient is not rounded at all. Neither takes a tensor of its own.
#
# Of a symmetric rulebook, pairs (i, o) of tap t are pairs (o, i) of the tap mirrored at the centre.
# Its adjoint then reads the same pairs with the taps of the weight `mirrored`, and output rows
# stay in order, which those of a rulebook read backwards do not. `by_row`, the same pairs
# listed by output row, spares depthwise layers making that list; of a symmetric rulebook it serves
# the adjoint too.


def _fake_conv(
    features,
    weight,
    bias,
    in_rows,
    out_rows,
    segments,
    num_out,
    groups,
    symmetric,
    mirrored,
    by_row,
):
    return features.new_empty(num_out, weight.shape[2])


def _setup_conv(ctx, inputs, output):
    features, weight, bias, in_rows, out_rows, segments, _, *ctx.kind, by_row = inputs
    ctx.save_for_backward(features, weight, in_rows, out_rows, segments, by_row)
    ctx.has_bias = bias is not None


def _conv_backward(ctx, grad):
    return *through_conv(ctx, ctx.saved_tensors, grad), *[None] * 8


def through_conv(ctx, saved, grad):
    """Return the gradients of features, weight and bias of an op that convolved them."""
    features, weight, in_rows, out_rows, segments, by_row = saved
    need_features, need_weight, need_bias = ctx.needs_input_grad[:3]
    grad_features = grad_weight = grad_bias = None
    if need_features:
        grad_features = _adjoint(
            grad, weight, in_rows, out_rows, segments, features.shape[0], *ctx.kind, by_row
        )
    if need_weight:
        unrounded = weight.dtype != features.dtype
        grad_weight = _conv_grad_weight(
            features, grad, in_rows, out_rows, segments, *ctx.kind, unrounded, by_row
        )
    if ctx.has_bias and need_bias:
        grad_bias = grad.sum(0)
    return grad_features, grad_weight, grad_bias


def _adjoint(
    grad, weight, in_rows, out_rows, segments, num_in, groups, symmetric, mirrored, by_row
):
    swapped = transpose_weight(weight, groups)
    rows = (in_rows, out_rows) if symmetric else (out_rows, in_rows)
    kind = groups, symmetric, mirrored != symmetric
    listed = by_row if symmetric else None
    return _conv(grad, swapped, None, *rows, segments, num_in, *kind, listed)


def _fake_conv_grad_weight(
    features, grad, in_rows, out_rows, segments, groups, symmetric, mirrored, unrounded, by_row
):
    dtype = accumulator(features.dtype) if unrounded else features.dtype
    return features.new_empty(
        segments.shape[0] - 1, features.shape[1] // groups, grad.shape[1], dtype=dtype
    )


def _setup_conv_grad_weight(ctx, inputs, output):
    *tensors, groups, symmetric, mirrored, _, by_row = inputs
    ctx.kind = groups, symmetric, mirrored
    ctx.save_for_backward(*tensors, by_row)


def _conv_grad_weight_backward(ctx, grad_weight):
    features, grad, in_rows, out_rows, segments, by_row = ctx.saved_tensors
    need_features, need_grad = ctx.needs_input_grad[:2]
    to_features = to_grad = None
    if need_features:
        to_features = _adjoint(
            grad, grad_weight, in_rows, out_rows, segments, features.shape[0], *ctx.kind, by_row
        )
    if need_grad:
        to_grad = _conv(
            features,
            grad_weight,
            None,
            in_rows,
            out_rows,
            segments,
            grad.shape[0],
            *ctx.kind,
            by_row,
        )
    return to_features, to_grad, *[None] * 8


def _fake_conv_fused(
    features,
    weight,
    bias,
    mean,
    var,
    norm_weight,
    norm_bias,
    eps,
    residual,
    relu,
    in_rows,
    out_rows,
    segments,
    num_out,
    groups,
    by_row,
):
    return features.new_empty(num_out, weight.shape[2])


def _check_conv(features, weight, bias, in_rows, out_rows, segments, num_out, groups, *kind):
    check_conv(features, weight, bias, segments, groups)
    check_pairs(in_rows, out_rows)


def _check_conv_fused(
    features,
    weight,
    bias,
    mean,
    var,
    norm_weight,
    norm_bias,
    eps,
    residual,
    relu,
    in_rows,
    out_rows,
    segments,
    num_out,
    groups,
    by_row,
):
    check_conv(features, weight, bias, segments, groups)
    check_pairs(in_rows, out_rows)
    width = weight.shape[2]
    check_residual(residual, features, num_out, width)
    check_columns(features, width, mean=mean, var=var, weight=norm_weight, bias=norm_bias)


_conv = define(
    "conv(Tensor features, Tensor weight, Tensor? bias, Tensor in_rows, Tensor out_rows, "
    "Tensor segments, SymInt num_out, int groups, bool symmetric, bool mirrored, "
    "Tensor? by_row) -> Tensor",
    reference=reference.conv,
    compiled=compiled("conv", "conv"),
    fake=_fake_conv,
    setup=_setup_conv,
    backward=_conv_backward,
    check=_check_conv,
)
_conv_grad_weight = define(
    "conv_grad_weight(Tensor features, Tensor grad, Tensor in_rows, Tensor out_rows, "
    "Tensor segments, int groups, bool symmetric, bool mirrored, bool unrounded, "
    "Tensor? by_row) -> Tensor",
    reference=reference.conv_grad_weight,
    compiled=compiled("conv", "conv_grad_weight"),
    fake=_fake_conv_grad_weight,
    setup=_setup_conv_grad_weight,
    backward=_conv_grad_weight_backward,
)
_conv_fused = define(
    "conv_fused(Tensor features, Tensor weight, Tensor? bias, Tensor? mean, Tensor? var, "
    "Tensor? norm_weight, Tensor? norm_bias, float eps, Tensor? residual, bool relu, "
    "Tensor in_rows, Tensor out_rows, Tensor segments, SymInt num_out, int groups, "
    "Tensor? by_row) -> Tensor",
    reference=reference.conv_fused,
    compiled=compiled("conv", "conv_fused"),
    fake=_fake_conv_fused,
    check=_check_conv_fused,
)


def cast_to_autocast(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    residual: Tensor | None,  # [M, D]
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return the floating inputs in autocast's dtype; a weight in that of its sums stays there.

    Raises:
        TypeError: the weight has another dtype than the features where there is no autocast.
    """
    device = features.device.type
    if not torch.is_autocast_enabled(device) or features.dtype == torch.float64:
        if weight.dtype != features.dtype:
            check_features("features", features)
            check_same_dtype("weight", weight, features)
        return features, weight, bias, residual
    dtype = torch.get_autocast_dtype(device)
    return (
        features if features.dtype == dtype else features.to(dtype),
        weight if weight.dtype == accumulator(dtype) else weight.to(dtype),
        None if bias is None else bias.to(dtype),
        residual if residual is None or residual.dtype == dtype else residual.to(dtype),
    )


def conv(
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
    norm: Normalize | None = None,
    residual: Tensor | None = None,  # [M, D]
    relu: bool = False,
) -> Tensor:  # [M, D]
    """Convolve over the pairs of a rulebook.

    `y[o] = bias + sum over taps t, pairs (i, o) of t, of x[i] W[t]`, normalised where there is a
    norm, plus `residual[o]`, and with `relu` the larger of that and 0; output group g reads input
    group g. Under autocast the floating inputs are cast to its dtype. 16-bit storage accumulates
    in float32. Differentiable twice. Norm, residual and ReLU cost no pass of their own where no
    gradient is wanted, and come before the result is rounded.

    Args:
        features: float [N, C].
        weight: same dtype, [K, C / G, D].
        bias: same dtype, [D], or None.
        in_rows: int32 [P].
        out_rows: int32 [P].
        segments: int64 [K + 1], the pairs of tap t being `segments[t]:segments[t + 1]`; pairs
            behind the last tap's are not read, so the first taps of a rulebook are one too.
        num_out: output rows M.
        groups: G.
        symmetric: whether (o, i) is a pair of tap K - 1 - t for every pair (i, o) of tap t, as in a
            submanifold layer: gradients then need no reordering. Not checked.
        by_row: what `pairs_by_row` makes of the same pairs and `num_out`, or None. Depthwise layers
            then need not make it; others do not read it.
        norm: statistics, weight and bias of a batch norm, [D] each, of the dtype of features or
            that of their sums; or None.
        residual: same dtype, [M, D], added to the result, or None.
        relu: whether to replace negative results by 0.

    Returns:
        float [M, D].

    Raises:
        TypeError: dtypes or devices differ.
        ValueError: channels, groups or taps do not fit each other.

    Source:
        Graham, Engelcke, van der Maaten, "3D Semantic Segmentation with Submanifold Sparse
        Convolutional Networks", arXiv:1711.10275, section 3.
    """
    features, weight, bias, residual = cast_to_autocast(features, weight, bias, residual)
    rows = in_rows, out_rows, segments, num_out, groups
    if residual is None and not relu and norm is None:
        return _conv(features, weight, bias, *rows, symmetric, False, by_row)
    given = (features, weight, bias, residual, *(norm or ())[:4])
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given):
        y = _conv(features, weight, bias, *rows, symmetric, False, by_row)
        if norm is not None:
            return norm_apply(y, *norm[:4], residual, eps=norm.eps, relu=relu)
        check_residual(residual, y, num_out, weight.shape[2])
        y = y if residual is None else y + residual
        return torch.relu(y) if relu else y
    of_norm = NO_NORM
    if norm is not None:
        of_norm = *per_channel(features, *norm[:4]), norm.eps
    return _conv_fused(features, weight, bias, *of_norm, residual, relu, *rows, by_row)


def conv_grad_weight(
    features: Tensor,  # [N, C]
    grad: Tensor,  # [M, D]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    groups: int = 1,
    *,
    symmetric: bool = False,
    mirrored: bool = False,
    unrounded: bool = False,
    by_row: Tensor | None = None,  # [M + P + 69] int64
) -> Tensor:  # [K, C / G, D]
    """Sum the outer products of paired rows, tap by tap: `dW[t] = sum x[i]^T g[o]`.

    Args:
        features: float [N, C].
        grad: same dtype, [M, D].
        in_rows: int32 [P].
        out_rows: int32 [P].
        segments: int64 [K + 1].
        groups: G, a divisor of C and D.
        symmetric: as for `conv`.
        mirrored: whether the result is wanted with its taps in reverse order, as of an adjoint.
        unrounded: whether to return it in the dtype of sums.
        by_row: as for `conv`.

    Returns:
        float [K, C / G, D].

    Raises:
        TypeError: dtypes or devices differ.
        ValueError: `groups` does not divide the channels.
    """
    check_features("features", features)
    check_same_dtype("grad", grad, features)
    check_pairs(in_rows, out_rows)
    if groups < 1 or features.shape[1] % groups or grad.shape[1] % groups:
        raise ValueError(
            complain(
                "groups",
                f"a divisor of {features.shape[1]} and {grad.shape[1]} channels",
                f"{groups}",
            )
        )
    kind = groups, symmetric, mirrored, unrounded, by_row
    return _conv_grad_weight(features, grad, in_rows, out_rows, segments, *kind)
