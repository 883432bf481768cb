"""What: dimension-wise convolution, with kernels of channels and of planes, and its gradients."""

from math import prod

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import dim_conv as reference
from sparseconv.backends.reference.dim_conv import branch_shapes
from sparseconv.ops._checks import (
    check_coords,
    check_features,
    check_pairs,
    check_same_dtype,
    describe,
)
from sparseconv.ops._registry import compiled, define

# The result is linear in features, in weights and in what joins the branches: its gradients and the
# op itself are all that derivatives of any order need.


def _fake(features, weights, join, bias, coords, in_rows, out_rows, segments, *kind):
    branches = len(kind[3]) if join is None else 1
    return features.new_empty(coords.shape[0], branches * features.shape[1])


def _fake_grad(features, grad, weights, join, *_):
    shape = (0,) if join is None else join.shape
    return features.new_empty(features.shape), features.new_empty(shape)


def _fake_grad_weight(features, grad, join, coords, in_rows, out_rows, segments, *kind):
    return features.new_empty(sum(map(prod, branch_shapes(features.shape[1], *kind[:4]))))


def _setup(ctx, inputs, output):
    *tensors, size, planes, shifts, axes, symmetric = inputs
    features, weights, join, bias, *where = tensors
    ctx.kind, ctx.biased = (size, planes, shifts, axes, symmetric), bias is not None
    ctx.save_for_backward(features, weights, join, *where)


def _setup_grad(ctx, inputs, output):
    *tensors, size, planes, shifts, axes, symmetric = inputs
    ctx.kind = size, planes, shifts, axes, symmetric
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _backward(ctx, grad):
    features, weights, join, *where = ctx.saved_tensors
    to_features = to_weights = to_join = to_bias = None
    if ctx.needs_input_grad[0] or ctx.needs_input_grad[2]:
        made = _dim_conv_grad(features, grad, weights, join, *where, *ctx.kind)
        to_features, to_join = made[0], None if join is None else made[1]
    if ctx.needs_input_grad[1]:
        to_weights = _dim_conv_grad_weight(features, grad, join, *where, *ctx.kind)
    if ctx.biased and ctx.needs_input_grad[3]:
        to_bias = grad.sum(0)
    return to_features, to_weights, to_join, to_bias, *[None] * 9


def _grad_backward(ctx, by_features, by_join):
    features, grad, weights, join, *where = ctx.saved_tensors
    to_features = to_grad = to_weights = to_join = None
    rest = *where, *ctx.kind
    if by_features is not None:
        to_grad = _dim_conv(by_features, weights, join, None, *rest)
        to_weights = _dim_conv_grad_weight(by_features, grad, join, *rest)
        if join is not None:
            to_join = _dim_conv_grad(by_features, grad, weights, join, *rest)[1]
    if by_join is not None and join is not None:
        to_features = _dim_conv_grad(features, grad, weights, by_join, *rest)[0]
        to_grad = _sum(to_grad, _dim_conv(features, weights, by_join, None, *rest))
        to_weights = _sum(to_weights, _dim_conv_grad_weight(features, grad, by_join, *rest))
    return to_features, to_grad, to_weights, to_join, *[None] * 9


def _grad_weight_backward(ctx, by_weights):
    features, grad, join, *where = ctx.saved_tensors
    to_features = to_grad = to_join = None
    rest = *where, *ctx.kind
    if by_weights is not None:
        to_features, to_join = _dim_conv_grad(features, grad, by_weights, join, *rest)
        to_grad = _dim_conv(features, by_weights, join, None, *rest)
    return to_features, to_grad, None if join is None else to_join, *[None] * 9


def _sum(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a + b


_WHERE = "Tensor coords, Tensor in_rows, Tensor out_rows, Tensor segments"
_KIND = "int[] size, int[] planes, int[] shifts, int[] axes, bool symmetric"
_dim_conv = define(
    f"dim_conv(Tensor features, Tensor weights, Tensor? join, Tensor? bias, {_WHERE}, {_KIND}) "
    "-> Tensor",
    reference=reference.dim_conv,
    compiled=compiled("dim_conv", "dim_conv"),
    fake=_fake,
    setup=_setup,
    backward=_backward,
)
_dim_conv_grad = define(
    f"dim_conv_grad(Tensor features, Tensor grad, Tensor weights, Tensor? join, {_WHERE}, {_KIND}) "
    "-> (Tensor, Tensor)",
    reference=reference.dim_conv_grad,
    compiled=compiled("dim_conv", "dim_conv_grad"),
    fake=_fake_grad,
    setup=_setup_grad,
    backward=_grad_backward,
)
_dim_conv_grad_weight = define(
    f"dim_conv_grad_weight(Tensor features, Tensor grad, Tensor? join, {_WHERE}, {_KIND}) "
    "-> Tensor",
    reference=reference.dim_conv_grad_weight,
    compiled=compiled("dim_conv", "dim_conv_grad_weight"),
    fake=_fake_grad_weight,
    setup=_setup_grad,
    backward=_grad_weight_backward,
)


def dim_conv(
    features: Tensor,  # [N, C]
    weights: Tensor,  # [W]
    coords: Tensor,  # [M, 4] int32
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    size: list[int],
    planes: list[int],
    shifts: list[int],
    axes: list[int],
    *,
    join: Tensor | None = None,  # [A, C]
    bias: Tensor | None = None,  # [C]
    symmetric: bool = False,
) -> Tensor:  # [M, A C], joined [M, C]
    """Convolve with kernels of every channel, and of every plane across an axis.

    `y[o, A c + r] = sum over taps t, pairs (i, o) of t, of k_r(o, c, t)`, which is
    `K_r[c, t] x[i, c]` for the branch of channels and
    `sum over j of K_r[q, j, t] x[i, c + shifts[j]]` for that of an axis, q being the coordinate of
    o along it and t the taps that stand still along it. Channels outside `0 <= c < C` add 0. With
    `join` the branches of a channel become one, and nothing of size A N C is made:
    `y[o, c] = bias[c] + sum over r of join[r, c] times that`. Under autocast the floating inputs
    are cast to its dtype.

    Args:
        features: float [N, C].
        weights: same dtype, [W], the kernels of the branches one after the other: [C, K] for
            channels, [planes, J, K without the axis] for an axis, taps numbered x-major.
        coords: int32 [M, 4], the output sites.
        in_rows: int32 [P], below N.
        out_rows: int32 [P], below M.
        segments: int64 [K + 1], the pairs of tap t being `segments[t]:segments[t + 1]`.
        size: odd taps along x, y and z, K in all.
        planes: the extent of the lattice (X, Y, Z).
        shifts: J shifts of the channels.
        axes: the A branches in order: 0 for channels, 1 to 3 for x, y and z.
        join: same dtype, [A, C], or None.
        bias: same dtype, [C], with `join`, or None.
        symmetric: whether (o, i) is a pair of tap K - 1 - t for every pair (i, o) of tap t, as in a
            submanifold layer: gradients then need no reordering. Not checked.

    Returns:
        float [M, A C], joined [M, C]. Differentiable as often as one likes.

    Raises:
        TypeError: dtypes or devices differ.
        ValueError: sizes do not fit, or a site lies beyond the lattice.

    Source:
        Mehta, Hajishirzi, Rastegari, "DiCENet", arXiv:1906.03516.
    """
    device = features.device.type
    if torch.is_autocast_enabled(device) and features.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        features, weights = features.to(dtype), weights.to(dtype)
        join = None if join is None else join.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    check_features("features", features)
    check_same_dtype("weights", weights, features)
    check_coords("coords", coords)
    check_pairs(in_rows, out_rows)
    if len(size) != 3 or any(k < 1 or k % 2 == 0 for k in size):
        raise ValueError(complain("size", "three odd numbers of taps", f"{list(size)}"))
    if segments.shape[0] != prod(size) + 1:
        expected = f"{segments.shape[0] - 1} taps, those of the rulebook"
        raise ValueError(complain("size", expected, f"{list(size)}"))
    if len(planes) != 3 or min(planes) < 1:
        raise ValueError(complain("planes", "three numbers >= 1", f"{list(planes)}"))
    if not axes or set(axes) - set(range(4)) or len(set(axes)) != len(axes):
        raise ValueError(complain("axes", "some of 0, 1, 2, 3, each once", f"{list(axes)}"))
    total = sum(map(prod, branch_shapes(features.shape[1], size, planes, shifts, axes)))
    if weights.dim() != 1 or weights.shape[0] != total:
        expected = f"shape [{total}], the kernels of all branches"
        raise ValueError(complain("weights", expected, describe(weights)))
    _check_join(features, join, bias, len(axes))
    kind = list(size), list(planes), list(shifts), list(axes), symmetric
    return _dim_conv(features, weights, join, bias, coords, in_rows, out_rows, segments, *kind)


def _check_join(
    features: Tensor,  # [N, C]
    join: Tensor | None,  # [A, C]
    bias: Tensor | None,  # [C]
    branches: int,
) -> None:
    channels = features.shape[1]
    if join is not None:
        check_same_dtype("join", join, features)
        if join.dim() != 2 or join.shape[0] != branches or join.shape[1] != channels:
            expected = f"shape [{branches}, {channels}], a number a branch and channel"
            raise ValueError(complain("join", expected, describe(join)))
    if bias is not None:
        check_same_dtype("bias", bias, features)
        if join is None or bias.dim() != 1 or bias.shape[0] != channels:
            expected = f"shape [{channels}], with join"
            raise ValueError(complain("bias", expected, describe(bias)))
