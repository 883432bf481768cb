"""What: depthwise convolutions whose kernel every site reads at places of its own."""

import math

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import deform_kernel as reference
from sparseconv.ops._checks import check_features, check_pairs, check_same_dtype, describe
from sparseconv.ops._registry import compiled, define


def _fake_deform_kernel(features, weight, places, in_rows, out_rows, segments, scope):
    return features.new_empty(places.shape[0], features.shape[1])


def _fake_deform_kernel_grad(features, weight, places, in_rows, out_rows, segments, scope, grad):
    return tuple(t.new_empty(t.shape) for t in (features, weight, places))


def _setup_deform_kernel(ctx, inputs, output):
    *tensors, ctx.scope = inputs
    ctx.save_for_backward(*tensors)


def _deform_kernel_backward(ctx, grad):
    made = _deform_kernel_grad(*ctx.saved_tensors, ctx.scope, grad)
    return *made, None, None, None, None


def _setup_once(ctx, inputs, output):
    pass


def _differentiated_once(ctx, *grads):
    raise RuntimeError(
        complain(
            "create_graph",
            "one derivative of a layer that reads its kernel between cells",
            "a second one, which is not offered",
            "leave create_graph out, or detach what was differentiated",
        )
    )


_deform_kernel = define(
    "deform_kernel(Tensor features, Tensor weight, Tensor places, Tensor in_rows, "
    "Tensor out_rows, Tensor segments, int[] scope) -> Tensor",
    reference=reference.deform_kernel,
    compiled=compiled("deform_kernel", "deform_kernel"),
    fake=_fake_deform_kernel,
    setup=_setup_deform_kernel,
    backward=_deform_kernel_backward,
)
_deform_kernel_grad = define(
    "deform_kernel_grad(Tensor features, Tensor weight, Tensor places, Tensor in_rows, "
    "Tensor out_rows, Tensor segments, int[] scope, Tensor grad) -> (Tensor, Tensor, Tensor)",
    reference=reference.deform_kernel_grad,
    compiled=compiled("deform_kernel", "deform_kernel_grad"),
    fake=_fake_deform_kernel_grad,
    setup=_setup_once,
    backward=_differentiated_once,
)


def deform_kernel(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [S, C]
    places: Tensor,  # [M, K, R, 3]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    scope: list[int],
) -> Tensor:  # [M, C]
    """Convolve every channel with a kernel that each site reads between its cells.

    `y[o, c] = sum over taps t, pairs (i, o) of t, of W(places[o, t, r(c)])[c] x[i, c]` with
    `r(c) = c // (C / R)`; `W(q)[c]` is trilinear on the grid `weight[:, c]` of `scope` cells, cell
    (i, j, k) sitting at (i, j, k) and everything beyond the grid being 0. Under autocast features
    and weight are cast to its dtype. Nothing of size M K C or M S C is made.

    Args:
        features: float [N, C].
        weight: same dtype, [S, C], the cells of the grid, x-major.
        places: float32 or float64 [M, K, R, 3], in cells.
        in_rows: int32 [P], below N.
        out_rows: int32 [P], below M.
        segments: int64 [K + 1], the pairs of tap t being `segments[t]:segments[t + 1]`.
        scope: three ints, cells of the grid along x, y, z; S is their product.

    Returns:
        float [M, C]. Differentiable once; at an integer the derivative is that of the cell above.

    Raises:
        TypeError: a dtype or device does not fit.
        ValueError: taps, groups, cells or channels do not fit.
        RuntimeError: a second derivative is asked for.

    Source:
        Gao et al., "Deformable Kernels", arXiv:1910.02940, equation 7.
    """
    device = features.device.type
    if torch.is_autocast_enabled(device) and features.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        features, weight = features.to(dtype), weight.to(dtype)
    check_features("features", features)
    check_same_dtype("weight", weight, features)
    check_pairs(in_rows, out_rows)
    if len(scope) != 3 or min(scope) < 1:
        raise ValueError(complain("scope", "three ints >= 1", f"{list(scope)}"))
    channels, cells = features.shape[1], math.prod(scope)
    if weight.dim() != 2 or tuple(weight.shape) != (cells, channels):
        raise ValueError(complain("weight", f"shape [{cells}, {channels}]", describe(weight)))
    if places.dtype not in (torch.float32, torch.float64):
        cure = "use .float()"
        raise TypeError(complain("places", "float32 or float64", describe(places), cure))
    taps = segments.shape[0] - 1
    if places.dim() != 4 or places.shape[1] != taps or places.shape[3] != 3:
        raise ValueError(complain("places", f"shape [M, {taps}, R, 3]", describe(places)))
    if places.shape[2] < 1 or channels % places.shape[2]:
        expected = f"groups that divide {channels} channels"
        raise ValueError(complain("places", expected, f"{places.shape[2]} groups"))
    return _deform_kernel(features, weight, places, in_rows, out_rows, segments, scope)
