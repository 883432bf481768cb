"""What: depthwise sums of samples between sites, weighed by a kernel read between its cells."""

import math

from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import moved_kernel as reference
from sparseconv.backends.reference.conv import accumulator
from sparseconv.ops._checks import check_coords, check_features, check_same_dtype, describe
from sparseconv.ops._registry import compiled, define
from sparseconv.ops.sample import cast, differentiated_once, equal_rows


def _fake_moved_kernel(features, coords, blocks, sites, heads, grid, kernel, start, scope, parts):
    return features.new_empty(heads.shape[0], features.shape[1])


def _fake_moved_kernel_grad(
    features, coords, blocks, sites, heads, grid, kernel, start, scope, parts, grad
):
    return tuple(t.new_empty(t.shape) for t in (features, heads, kernel))


def _setup_moved_kernel(ctx, inputs, output):
    *tensors, scope, parts = inputs
    ctx.given = scope, parts
    ctx.save_for_backward(*tensors)


def _moved_kernel_backward(ctx, grad):
    made = _moved_kernel_grad(*ctx.saved_tensors, *ctx.given, grad)
    to_features, to_heads, to_kernel = made
    to_grid = to_start = None
    if ctx.needs_input_grad[5] or ctx.needs_input_grad[7]:
        taps = ctx.saved_tensors[5].shape[0]
        to_grid, to_start = to_heads.sum(0).reshape(2, ctx.given[1], taps, 3).sum(1)
    return to_features, None, None, None, to_heads, to_grid, to_kernel, to_start, None, None


def _setup_once(ctx, inputs, output):
    pass


_moved_kernel = define(
    "moved_kernel(Tensor features, Tensor coords, Tensor blocks, Tensor sites, Tensor heads, "
    "Tensor grid, Tensor kernel, Tensor start, int[] scope, int parts) -> Tensor",
    reference=reference.moved_kernel,
    compiled=compiled("moved_kernel", "moved_kernel"),
    fake=_fake_moved_kernel,
    setup=_setup_moved_kernel,
    backward=_moved_kernel_backward,
)
_moved_kernel_grad = define(
    "moved_kernel_grad(Tensor features, Tensor coords, Tensor blocks, Tensor sites, Tensor heads, "
    "Tensor grid, Tensor kernel, Tensor start, int[] scope, int parts, Tensor grad) "
    "-> (Tensor, Tensor, Tensor)",
    reference=reference.moved_kernel_grad,
    compiled=compiled("moved_kernel", "moved_kernel_grad"),
    fake=_fake_moved_kernel_grad,
    setup=_setup_once,
    backward=differentiated_once,
)


def moved_kernel(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    heads: Tensor,  # [M, 6 R K]
    grid: Tensor,  # [K, 3]
    kernel: Tensor,  # [S, C]
    start: Tensor,  # [K, 3]
    scope: list[int],
    parts: int = 1,
) -> Tensor:  # [M, C]
    """Sum samples read between sites, channel by channel, by a kernel read between its cells.

    `y[o, c] = sum over t of W(start[t] + e[o, r, t])[c] x(site(o) + grid[t] + d[o, r, t])[c]`,
    `r = c // (C / R)`. The heads of a row are d [R, K, 3], in voxels, and behind them e
    [R, K, 3], in cells. Both x and W are trilinear; sites that are absent and what lies beyond the
    kernel's grid add 0. Nothing of size M K C is made.

    Args:
        features: float [N, C].
        coords: int32 [N, 4], their sites.
        blocks: what `block_index(coords)` returned.
        sites: int32 [M, 4], the sites taps lie about, on the lattice of `coords`.
        heads: float64 where the features are, else float32, [M, 6 R K].
        grid: like the heads, [K, 3], voxels from a site to each of its taps.
        kernel: dtype of the features, [S, C], the cells of the kernel, x-major.
        start: like the heads, [K, 3], where each tap reads the kernel without offsets, in cells.
        scope: three ints, cells of the kernel along x, y, z; S is their product.
        parts: R, groups of channels with offsets of their own.

    Returns:
        dtype of the features, under autocast its dtype, [M, C]. Differentiable once; at an integer
        the derivative is that of the cell above it.

    Raises:
        TypeError: a dtype or device does not fit.
        ValueError: rows, taps, groups, cells or channels do not fit.
        RuntimeError: a second derivative is asked for.

    Source:
        Gao et al., "Deformable Kernels", arXiv:1910.02940; Dai et al., arXiv:1703.06211.
    """
    features, kernel = cast(features, kernel)
    check_features("features", features)
    check_coords("coords", coords)
    equal_rows("coords", coords, features)
    check_coords("sites", sites)
    check_same_dtype("kernel", kernel, features)
    channels, taps, wide = features.shape[1], grid.shape[0], accumulator(features.dtype)
    if len(scope) != 3 or min(scope) < 1:
        raise ValueError(complain("scope", "three ints >= 1", f"{list(scope)}"))
    if parts < 1 or channels % parts:
        raise ValueError(complain("parts", f"a divisor of {channels} channels", f"{parts}"))
    if kernel.dim() != 2 or tuple(kernel.shape) != (math.prod(scope), channels):
        expected = f"shape [{math.prod(scope)}, {channels}]"
        raise ValueError(complain("kernel", expected, describe(kernel)))
    for name, value in (("heads", heads), ("grid", grid), ("start", start)):
        if value.dtype != wide or value.device != features.device:
            expected = f"{wide} on {features.device.type}".replace("torch.", "")
            raise TypeError(complain(name, expected, describe(value)))
        if value.dim() != 2 or (name != "heads" and tuple(value.shape) != (taps, 3)):
            raise ValueError(complain(name, "two axes, the last x, y, z", describe(value)))
    if heads.shape[1] != 6 * parts * taps:
        cure = "of every tap and group two offsets of three numbers"
        expected = f"shape [M, {6 * parts * taps}]"
        raise ValueError(complain("heads", expected, describe(heads), cure))
    equal_rows("heads", heads, sites)
    given = features, coords, blocks, sites, heads, grid, kernel, start
    return _moved_kernel(*given, scope, parts)
