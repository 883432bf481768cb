"""Samples between sites weighed by a kernel read between its cells, and their gradients."""

import math

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import DTYPES, dense, rows
from sparseconv.backends.cpu.sample import gradient, nothing
from sparseconv.backends.reference import moved_kernel as reference
from sparseconv.backends.reference.conv import accumulator


def _tensors(
    features: Tensor,
    blocks: Tensor,
    sites: Tensor,
    heads: Tensor,
    grid: Tensor,
    kernel: Tensor,
    start: Tensor,
    scope: list[int],
    parts: int,
) -> tuple[Tensor, ...]:
    """Return contiguous CPU tensors, the grid once for every group, or refuse."""
    wide, (m, width), channels = accumulator(features.dtype), heads.shape, features.shape[1]
    taps = grid.shape[0]
    if parts < 1 or channels % parts or width != 6 * parts * taps:
        expected = f"6 numbers a tap and group of {taps} taps, groups that divide {channels}"
        raise ValueError(complain("heads", expected, f"{list(heads.shape)}, {parts} groups"))
    wanted = {
        "sites": (sites, (m, 4)),
        "grid": (grid, (taps, 3)),
        "start": (start, (taps, 3)),
        "kernel": (kernel, (math.prod(scope), channels)),
    }
    for name, (value, shape) in wanted.items():
        if value.shape != shape:
            raise ValueError(complain(name, f"{list(shape)}", f"{list(value.shape)}"))
    return (
        rows("features", features),
        dense("blocks", blocks, torch.int32, 1),
        dense("sites", sites, torch.int32, 2),
        dense("heads", heads, wide, 2),
        dense("grid", grid, wide, 2).repeat(parts, 1),
        dense("kernel", kernel, features.dtype, 2),
        dense("start", start, wide, 2),
    )


def _native_of(
    given: tuple[Tensor, ...],
    scope: list[int],
    parts: int,
) -> tuple[_native.Positions, _native.MovedKernel]:
    """Return what the kernel reads; the tensors must outlive it."""
    features, blocks, sites, heads, grid, kernel, start = given
    place = _native.Positions(
        blocks.data_ptr(),
        blocks.shape[0],
        features.shape[0],
        sites.data_ptr(),
        heads.data_ptr(),
        heads.dtype == torch.float64,
        heads.shape[0],
        grid.shape[0],
        1,
        grid.data_ptr(),
        heads.shape[1],
    )
    by = kernel.data_ptr(), start.data_ptr(), features.shape[1], parts, *scope
    return place, _native.MovedKernel(*by)


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
    parts: int,
) -> Tensor:  # [M, C]
    """Return `y[o, c] = sum over t of W(places[o, t, r(c)])[c] x(positions[o, t, r(c)])[c]`."""
    if nothing(features, heads):
        given = features, coords, blocks, sites, heads, grid, kernel, start
        return reference.moved_kernel(*given, scope, parts)
    given = _tensors(features, blocks, sites, heads, grid, kernel, start, scope, parts)
    features = given[0]
    y = features.new_empty(heads.shape[0], features.shape[1])
    _native.moved_kernel(
        DTYPES[features.dtype],
        *_native_of(given, scope, parts),
        features.data_ptr(),
        y.data_ptr(),
        torch.get_num_threads(),
    )
    return y


def moved_kernel_grad(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    heads: Tensor,  # [M, 6 R K]
    grid: Tensor,  # [K, 3]
    kernel: Tensor,  # [S, C]
    start: Tensor,  # [K, 3]
    scope: list[int],
    parts: int,
    grad: Tensor,  # [M, C]
) -> tuple[Tensor, Tensor, Tensor]:  # [N, C], [M, 6 R K], [S, C]
    """Return the gradients of features, heads and kernel."""
    if nothing(features, heads):
        given = features, coords, blocks, sites, heads, grid, kernel, start
        return reference.moved_kernel_grad(*given, scope, parts, grad)
    given = _tensors(features, blocks, sites, heads, grid, kernel, start, scope, parts)
    features, heads, kernel = given[0], given[3], given[5]
    grad = gradient(grad, features, heads.shape[0], features.shape[1])
    made = tuple(t.new_empty(t.shape) for t in (features, heads, kernel))
    _native.moved_kernel_grad(
        DTYPES[features.dtype],
        *_native_of(given, scope, parts),
        features.data_ptr(),
        grad.data_ptr(),
        *(tensor.data_ptr() for tensor in made),
        torch.get_num_threads(),
    )
    return made
