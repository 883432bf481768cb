"""What: sums over the taps of each site, weighted site by site, and the dot products of pairs."""

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import taps as reference
from sparseconv.ops._checks import check_features, check_pairs, check_same_dtype, describe
from sparseconv.ops._registry import compiled, define


def _fake_tap_sum(features, weights, in_rows, out_rows, segments, num_out, transposed):
    return features.new_empty(num_out, features.shape[1])


def _setup_tap_sum(ctx, inputs, output):
    *tensors, _, ctx.transposed = inputs
    ctx.save_for_backward(*tensors)


def _tap_sum_backward(ctx, grad):
    features, weights, *book = ctx.saved_tensors
    grad_features = grad_weights = None
    if ctx.needs_input_grad[0]:
        grad_features = _tap_sum(grad, weights, *book, features.shape[0], not ctx.transposed)
    if ctx.needs_input_grad[1]:
        inner, outer = (grad, features) if ctx.transposed else (features, grad)
        grad_weights = _tap_dot(inner, outer, *book, weights.shape[2])
    return grad_features, grad_weights, *[None] * 5


def _fake_tap_dot(a, b, in_rows, out_rows, segments, groups):
    return a.new_empty(b.shape[0], segments.shape[0] - 1, groups)


def _setup_tap_dot(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:-1])


def _tap_dot_backward(ctx, grad):
    a, b, *book = ctx.saved_tensors
    grad_a = grad_b = None
    if ctx.needs_input_grad[0]:
        grad_a = _tap_sum(b, grad, *book, a.shape[0], True)
    if ctx.needs_input_grad[1]:
        grad_b = _tap_sum(a, grad, *book, b.shape[0], False)
    return grad_a, grad_b, *[None] * 4


_tap_sum = define(
    "tap_sum(Tensor features, Tensor weights, Tensor in_rows, Tensor out_rows, Tensor segments, "
    "SymInt num_out, bool transposed) -> Tensor",
    reference=reference.tap_sum,
    compiled=compiled("taps", "tap_sum"),
    fake=_fake_tap_sum,
    setup=_setup_tap_sum,
    backward=_tap_sum_backward,
)
_tap_dot = define(
    "tap_dot(Tensor a, Tensor b, Tensor in_rows, Tensor out_rows, Tensor segments, "
    "int groups) -> Tensor",
    reference=reference.tap_dot,
    compiled=compiled("taps", "tap_dot"),
    fake=_fake_tap_dot,
    setup=_setup_tap_dot,
    backward=_tap_dot_backward,
)


def tap_sum(
    features: Tensor,  # [N, C], transposed [M, C]
    weights: Tensor,  # [M, K, G]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
    *,
    transposed: bool = False,
) -> Tensor:  # [M, C], transposed [N, C]
    """Sum each site's neighbours, every site with weights of its own.

    `y[o, c] = sum over taps t, pairs (i, o) of t, of w[o, t, g(c)] x[i, c]` with
    `g(c) = c // (C / G)`; transposed, the adjoint: `y[i, c] = sum of w[o, t, g(c)] x[o, c]`.
    Under autocast both inputs are cast to its dtype. Nothing of size N K C is made.

    Args:
        features: float [N, C]; transposed [M, C].
        weights: same dtype, [M, K, G], G a divisor of C.
        in_rows: int32 [P], below N.
        out_rows: int32 [P], below M.
        segments: int64 [K + 1], the pairs of tap t being `segments[t]:segments[t + 1]`.
        num_out: rows of the result: M; transposed N.
        transposed: whether to sum over the sites that read a site instead.

    Returns:
        float [num_out, C]. Differentiable twice.

    Raises:
        TypeError: dtypes or devices differ.
        ValueError: rows, taps, groups or channels do not fit.
    """
    features, weights = _cast(features, weights)
    check_features("features", features)
    check_same_dtype("weights", weights, features)
    check_pairs(in_rows, out_rows)
    if weights.dim() != 3 or weights.shape[1] != segments.shape[0] - 1:
        expected = f"shape [M, {segments.shape[0] - 1}, G], a weight per tap of the rulebook"
        raise ValueError(complain("weights", expected, describe(weights)))
    _check_groups(weights.shape[2], features.shape[1])
    if not torch.compiler.is_compiling():
        sites = features.shape[0] if transposed else num_out
        if weights.shape[0] != sites:
            expected = f"{sites} rows, one per output site"
            raise ValueError(complain("weights", expected, describe(weights)))
    return _tap_sum(features, weights, in_rows, out_rows, segments, num_out, transposed)


def tap_dot(
    a: Tensor,  # [N, C]
    b: Tensor,  # [M, C]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    groups: int = 1,
) -> Tensor:  # [M, K, G]
    """Return the dot products of each site with its neighbours, group by group.

    `e[o, t, g] = sum over pairs (i, o) of t, channels c of g, of a[i, c] b[o, c]`, 0 where a tap
    has no pair. Under autocast both inputs are cast to its dtype.

    Args:
        a: float [N, C], of the neighbours.
        b: same dtype, [M, C], of the sites.
        in_rows: int32 [P], below N.
        out_rows: int32 [P], below M.
        segments: int64 [K + 1], the pairs of tap t being `segments[t]:segments[t + 1]`.
        groups: G, a divisor of C.

    Returns:
        float [M, K, G]. Differentiable twice.

    Raises:
        TypeError: dtypes or devices differ.
        ValueError: groups or channels do not fit.
    """
    a, b = _cast(a, b)
    check_features("a", a)
    check_same_dtype("b", b, a)
    if b.dim() != 2 or b.shape[1] != a.shape[1]:
        raise ValueError(complain("b", f"shape [M, {a.shape[1]}]", describe(b)))
    check_pairs(in_rows, out_rows)
    _check_groups(groups, a.shape[1])
    return _tap_dot(a, b, in_rows, out_rows, segments, groups)


def _cast(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    device = a.device.type
    if torch.is_autocast_enabled(device) and a.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        return a.to(dtype), b.to(dtype)
    return a, b


def _check_groups(groups: int, channels: int) -> None:
    if groups < 1 or channels % groups:
        raise ValueError(complain("groups", f"a divisor of {channels} channels", f"{groups}"))
