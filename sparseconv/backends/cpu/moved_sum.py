"""Sums of samples whose places and weights are predicted row by row, and their gradients."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import DTYPES, dense, rows
from sparseconv.backends.cpu.sample import gradient, nothing
from sparseconv.backends.reference import moved_sum as reference
from sparseconv.backends.reference.conv import accumulator


def _tensors(
    features: Tensor,
    blocks: Tensor,
    sites: Tensor,
    query: Tensor,
    weight: Tensor,
    bias: Tensor,
    grid: Tensor,
) -> tuple[Tensor, ...]:
    """Return contiguous CPU tensors, or refuse."""
    wide = accumulator(features.dtype)
    return (
        rows("features", features),
        dense("blocks", blocks, torch.int32, 1),
        dense("sites", sites, torch.int32, 2),
        rows("query", query, features.dtype),
        dense("weight", weight, wide, 2),
        dense("bias", bias, wide, 1),
        dense("grid", grid, wide, 2),
    )


def _taps(
    given: tuple[Tensor, ...],
    groups: int,
    softmax: bool,
    renormalize: bool,
) -> _native.MovedTaps:
    """Check what predicts taps; the tensors must outlive what is returned."""
    features, blocks, sites, query, weight, bias, grid = given
    (m, depth), channels, taps = query.shape, features.shape[1], grid.shape[0]
    numbers = 4 * groups * taps
    wanted = {
        "sites": (sites, (m, 4)),
        "weight": (weight, (numbers, depth)),
        "bias": (bias, (numbers,)),
        "grid": (grid, (taps, 3)),
    }
    for name, (value, shape) in wanted.items():
        if value.shape != shape:
            raise ValueError(complain(name, f"{list(shape)}", f"{list(value.shape)}"))
    if groups < 1 or channels % groups:
        raise ValueError(complain("groups", f"a divisor of {channels}", str(groups)))
    return _native.MovedTaps(
        blocks.data_ptr(),
        blocks.shape[0],
        features.shape[0],
        sites.data_ptr(),
        m,
        channels,
        depth,
        taps,
        groups,
        softmax,
        renormalize,
        weight.data_ptr(),
        bias.data_ptr(),
        grid.data_ptr(),
    )


def moved_sum(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    query: Tensor,  # [M, Q]
    weight: Tensor,  # [4 G K, Q]
    bias: Tensor,  # [4 G K]
    grid: Tensor,  # [K, 3]
    groups: int,
    softmax: bool,
    renormalize: bool,
) -> Tensor:  # [M, C]
    """Return `y[o, c] = sum over t of m[o, g, t] x(site(o) + grid[t] + d[o, g, t])[c]`."""
    kind = groups, softmax, renormalize
    if nothing(features, query, weight):
        given = features, coords, blocks, sites, query, weight, bias, grid
        return reference.moved_sum(*given, *kind)
    given = _tensors(features, blocks, sites, query, weight, bias, grid)
    features, query = given[0], given[3]
    y = features.new_empty(query.shape[0], features.shape[1])
    _native.moved_sum(
        DTYPES[features.dtype],
        _taps(given, *kind),
        features.data_ptr(),
        query.data_ptr(),
        y.data_ptr(),
        torch.get_num_threads(),
    )
    return y


def moved_sum_grad(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    query: Tensor,  # [M, Q]
    weight: Tensor,  # [4 G K, Q]
    bias: Tensor,  # [4 G K]
    grid: Tensor,  # [K, 3]
    groups: int,
    softmax: bool,
    renormalize: bool,
    grad: Tensor,  # [M, C]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # [N, C], [M, Q], [4 G K, Q], [4 G K]
    """Return the gradients of features, query, weight and bias."""
    kind = groups, softmax, renormalize
    if nothing(features, query, weight):
        given = features, coords, blocks, sites, query, weight, bias, grid
        return reference.moved_sum_grad(*given, *kind, grad)
    given = _tensors(features, blocks, sites, query, weight, bias, grid)
    features, _, _, query, weight, bias, _ = given
    grad = gradient(grad, features, query.shape[0], features.shape[1])
    made = tuple(t.new_empty(t.shape) for t in (features, query, weight, bias))
    _native.moved_sum_grad(
        DTYPES[features.dtype],
        _taps(given, *kind),
        features.data_ptr(),
        query.data_ptr(),
        grad.data_ptr(),
        *(tensor.data_ptr() for tensor in made),
        torch.get_num_threads(),
    )
    return made
