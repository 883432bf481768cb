"""What: convolutions of two resolutions that exchange, as one op."""

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import octave as reference
from sparseconv.backends.reference.conv import accumulator
from sparseconv.backends.reference.octave import Primitives, gradients
from sparseconv.ops._checks import (
    check_conv,
    check_features,
    check_pairs,
    check_same_dtype,
    describe,
)
from sparseconv.ops._registry import compiled, define
from sparseconv.ops.aggregate import aggregate
from sparseconv.ops.conv import conv_grad_weight

# The adjoint is the op itself, with its weights turned over: copies to children are the adjoint of
# sums over them. Both rulebooks are symmetric. `children`, sites by parent as `pairs_by_row` lists
# them, spares sorting them.


def _fake_octave_conv(
    features,
    low,
    high_to_high,
    high_to_low,
    low_to_high,
    low_to_low,
    bias,
    in_rows,
    out_rows,
    segments,
    low_in_rows,
    low_out_rows,
    low_segments,
    children,
    parents,
    counts,
    adjoint,
):
    far, num_low = high_to_low.shape[2], counts.shape[0]
    width = high_to_high.shape[2] + (far if low is None else 0)
    channels = high_to_high.shape[1] + low_to_high.shape[1]
    return (
        features.new_empty(features.shape[0], width),
        features.new_empty(0 if low is None else num_low, far),
        features.new_empty(num_low, channels),
    )


def _setup_octave_conv(ctx, inputs, output):
    features, low, *weights, bias = inputs[:7]
    ctx.save_for_backward(features, *weights, output[2], *inputs[7:16])
    ctx.adjoint = inputs[16]
    ctx.has_low, ctx.has_bias = low is not None, bias is not None
    ctx.set_materialize_grads(False)


def _octave_conv_backward(ctx, grad, grad_low, grad_pooled):
    saved = ctx.saved_tensors
    features, high_to_high, high_to_low = saved[:3]
    parents, counts = saved[13:]
    need_features, need_low, *need_weights, need_bias = ctx.needs_input_grad[:7]
    high, (width, far) = high_to_high.shape[1], (high_to_high.shape[2], high_to_low.shape[2])
    if grad is None:
        grad = features.new_zeros(features.shape[0], width + (0 if ctx.has_low else far))
    if ctx.has_low and grad_low is None:
        grad_low = features.new_zeros(counts.shape[0], far)
    needs = need_features or need_low, any(need_weights), ctx.has_bias and need_bias
    given = grad, grad_low if ctx.has_low else None, *saved, ctx.adjoint, *needs
    # one op where nobody differentiates again, for each takes its time
    again = torch.is_grad_enabled()
    made = gradients(_AGAIN, *given) if again else _octave_conv_grad(*given)
    to_features, to_low, to_near, to_both, to_up, to_bias = made
    if needs[0] and grad_pooled is not None:
        summed = grad_pooled[:, :high] if ctx.has_low else grad_pooled
        summed = summed if ctx.adjoint else summed / counts[:, None]
        to_features = to_features + summed.index_select(0, parents)
        to_low = to_low + grad_pooled[:, high:] if ctx.has_low else None
    to_weights = [None] * 4
    if needs[1]:
        to_weights = to_near, to_both[:, :high], to_up, to_both[:, high:]
    return (
        to_features if need_features else None,
        to_low if need_low and ctx.has_low else None,
        *to_weights,
        to_bias if needs[2] else None,
        *[None] * 10,
    )


def _fake_octave_conv_grad(
    grad,
    grad_low,
    features,
    high_to_high,
    high_to_low,
    low_to_high,
    low_to_low,
    pooled,
    in_rows,
    out_rows,
    segments,
    low_in_rows,
    low_out_rows,
    low_segments,
    children,
    parents,
    counts,
    adjoint,
    need_input,
    need_weights,
    need_bias,
):
    taps, high, width = high_to_high.shape
    low, far, num_low = low_to_high.shape[1], high_to_low.shape[2], counts.shape[0]
    inputs, weights = [(0,), (0,)], [(0,)] * 3
    if need_input and grad_low is None:
        inputs = (grad.shape[0], high + low), (0, low)
    elif need_input:
        inputs = (grad.shape[0], high), (num_low, low)
    if need_weights:
        weights = (taps, high, width), (taps, high + low, far), (taps, low, width)
    dtype = high_to_high.dtype if need_weights else grad.dtype
    return (
        *(grad.new_empty(shape) for shape in inputs),
        *(grad.new_empty(shape, dtype=dtype) for shape in weights),
        grad.new_empty(width + far if need_bias else 0),
    )


_octave_conv = define(
    "octave_conv(Tensor features, Tensor? low, Tensor high_to_high, Tensor high_to_low, "
    "Tensor low_to_high, Tensor low_to_low, Tensor? bias, Tensor in_rows, Tensor out_rows, "
    "Tensor segments, Tensor low_in_rows, Tensor low_out_rows, Tensor low_segments, "
    "Tensor? children, Tensor parents, Tensor counts, bool adjoint) -> (Tensor, Tensor, Tensor)",
    reference=reference.octave_conv,
    compiled=compiled("octave", "octave_conv"),
    fake=_fake_octave_conv,
    setup=_setup_octave_conv,
    backward=_octave_conv_backward,
)
_octave_conv_grad = define(
    "octave_conv_grad(Tensor grad, Tensor? grad_low, Tensor features, Tensor high_to_high, "
    "Tensor high_to_low, Tensor low_to_high, Tensor low_to_low, Tensor pooled, Tensor in_rows, "
    "Tensor out_rows, Tensor segments, Tensor low_in_rows, Tensor low_out_rows, "
    "Tensor low_segments, Tensor? children, Tensor parents, Tensor counts, bool adjoint, "
    "bool need_input, bool need_weights, bool need_bias) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    reference=reference.octave_conv_grad,
    compiled=compiled("octave", "octave_conv_grad"),
    fake=_fake_octave_conv_grad,
)


def _grad_weight(features, grad, in_rows, out_rows, segments, groups, *kind):
    names = "symmetric", "mirrored", "unrounded", "by_row"
    named = dict(zip(names, kind, strict=True))
    return conv_grad_weight(features, grad, in_rows, out_rows, segments, groups, **named)


def _parent_sum(features, children, parents, counts, divided):
    rows = torch.arange(features.shape[0], dtype=torch.int32, device=features.device)
    total = aggregate(features, rows, parents, None, counts.shape[0])
    return total / counts[:, None] if divided else total


_AGAIN = Primitives(_octave_conv, _grad_weight, _parent_sum)


def octave_conv(
    features: Tensor,  # [N, C], or [N, C_H] beside `low`
    low: Tensor | None,  # [M, C_L]
    weights: tuple[Tensor, Tensor, Tensor, Tensor],
    bias: Tensor | None,  # [D]
    rulebook: tuple[Tensor, Tensor, Tensor],
    low_rulebook: tuple[Tensor, Tensor, Tensor],
    children: Tensor | None,  # [M + N + 69] int64
    parents: Tensor,  # [N] int32
    counts: Tensor,  # [M] int64
) -> tuple[Tensor, Tensor]:  # [N, D] and [0, D_L], or [N, D_H] and [M, D_L]
    """Convolve two parts of the channels at two resolutions that exchange.

    `Y_H = f_HH(X_H) + up(f_LH(X_L))`, `Y_L = f_LL(X_L) + f_HL(pool(X_H))`, `pool` summing the
    children of a parent and dividing by its count, `up` copying a parent to its children. Without
    `low` both parts lie side by side at the sites: `X_L = pool(features[:, C_H:])`, and the result
    is `[Y_H, up(Y_L)]`. Differentiable twice. Under autocast the floating inputs are cast to its
    dtype.

    Args:
        features: float [N, C_H + C_L], or [N, C_H] where `low` is given.
        low: same dtype, [M, C_L], or None.
        weights: same dtype, [K, C_H, D_H], [K, C_H, D_L], [K, C_L, D_H] and [K, C_L, D_L]: from
            high to high, high to low, low to high and low to low.
        bias: same dtype, [D_H + D_L], or None.
        rulebook: in_rows, out_rows and segments at the sites, symmetric as submanifold ones with
            odd kernels are. Not checked.
        low_rulebook: the same at the parents.
        children: what `pairs_by_row` makes of the pairs of sites and parents, or None, which takes
            longer.
        parents: int32 [N], the row of each site's parent.
        counts: int64 [M], what the sum over a parent's children is divided by.

    Returns:
        float [N, D_H + D_L] and an empty tensor, or [N, D_H] and [M, D_L].

    Raises:
        TypeError: dtypes or devices differ.
        ValueError: channels or taps do not fit each other.

    Source:
        Chen et al., "Drop an Octave: Reducing Spatial Redundancy in Convolutional Neural Networks
        with Octave Convolution", arXiv:1904.05049, equation 4.
    """
    check_features("features", features)
    device, cast = features.device.type, False
    if torch.is_autocast_enabled(device) and features.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        features = features.to(dtype)
        low = None if low is None else low.to(dtype)
        cast = all(w.dtype == accumulator(dtype) for w in weights)
        weights = weights if cast else tuple(w.to(dtype) for w in weights)
        bias = None if bias is None else bias.to(dtype)
    hh, hl, lh, ll = weights
    channels = hh.shape[1] + (lh.shape[1] if low is None else 0)
    if features.shape[1] != channels:
        expected = f"{channels} channels, as the weights"
        raise ValueError(complain("features", expected, describe(features)))
    if low is not None:
        check_same_dtype("low", low, features)
        if low.dim() != 2 or low.shape[1] != lh.shape[1]:
            raise ValueError(complain("low", f"[M, {lh.shape[1]}]", describe(low)))
    near = features[:, : hh.shape[1]]
    behind = features[:, hh.shape[1] :] if low is None else low
    for x, weight, ends in (
        (near, hh, rulebook[2]),
        (near, hl, low_rulebook[2]),
        (behind, lh, low_rulebook[2]),
        (behind, ll, low_rulebook[2]),
    ):
        if not cast:
            check_same_dtype("weight", weight, x)
        check_conv(x, weight, None, ends, 1)
    if (hh.shape[2], hl.shape[2]) != (lh.shape[2], ll.shape[2]):
        raise ValueError(
            complain(
                "weights",
                f"{hh.shape[2]} high and {hl.shape[2]} low results from both parts",
                f"{lh.shape[2]} and {ll.shape[2]} from the low one",
            )
        )
    if bias is not None:
        check_same_dtype("bias", bias, features)
        if bias.shape != (hh.shape[2] + hl.shape[2],):
            raise ValueError(complain("bias", f"[{hh.shape[2] + hl.shape[2]}]", describe(bias)))
    for pairs in (rulebook, low_rulebook, (parents, parents)):
        check_pairs(*pairs[:2])
    where = *rulebook, *low_rulebook, children, parents, counts
    return _octave_conv(features, low, *weights, bias, *where, False)[:2]
