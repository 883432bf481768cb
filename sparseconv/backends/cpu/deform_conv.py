"""Convolutions of samples read between sites, at taps that every site moves, and the gradients."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import DTYPES, dense, rows
from sparseconv.backends.cpu.sample import address, gradient, nothing
from sparseconv.backends.reference import deform_conv as reference


def _place(
    features: Tensor,  # [N, C]
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    heads: Tensor,  # [M, R]
    grid: Tensor,  # [K, 3]
    parts: int,
) -> _native.Positions:
    """Check what taps are moved by; the tensors must be contiguous and outlive what is returned."""
    (m, width), taps, channels = heads.shape, grid.shape[0], features.shape[1]
    cells = parts * taps
    if parts < 1 or channels % parts or width not in (3 * cells, 4 * cells):
        expected = f"3 or 4 numbers a tap and group of {taps} taps and {parts} groups"
        raise ValueError(complain("heads", expected, f"{list(heads.shape)}"))
    if sites.shape != (m, 4) or grid.shape[1] != 3:
        found = f"{list(sites.shape)} and {list(grid.shape)}"
        raise ValueError(complain("sites, grid", f"{[m, 4]} and {[taps, 3]}", found))
    return _native.Positions(
        blocks.data_ptr(),
        blocks.shape[0],
        features.shape[0],
        sites.data_ptr(),
        heads.data_ptr(),
        heads.dtype == torch.float64,
        m,
        taps,
        parts,
        grid.data_ptr(),
        width,
    )


def _tensors(
    features: Tensor,
    blocks: Tensor,
    sites: Tensor,
    heads: Tensor,
    grid: Tensor,
    weight: Tensor,
    groups: int,
) -> tuple[Tensor, ...]:
    """Return contiguous CPU tensors, or refuse."""
    if heads.dtype not in (torch.float32, torch.float64):
        raise TypeError(complain("heads", "float32 or float64", str(heads.dtype)))
    weight = dense("weight", weight, features.dtype, 3)
    channels, taps, width = features.shape[1], grid.shape[0], weight.shape[2]
    if groups < 1 or channels % groups or width % groups:
        raise ValueError(complain("groups", f"a divisor of {channels} and {width}", str(groups)))
    if weight.shape[:2] != (taps, channels // groups):
        raise ValueError(
            complain("weight", f"{[taps, channels // groups, width]}", f"{list(weight.shape)}")
        )
    return (
        rows("features", features),
        dense("blocks", blocks, torch.int32, 1),
        dense("sites", sites, torch.int32, 2),
        dense("heads", heads, heads.dtype, 2),
        dense("grid", grid, heads.dtype, 2),
        weight,
    )


def deform_conv(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    heads: Tensor,  # [M, R]
    grid: Tensor,  # [K, 3]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    parts: int,
    squash: bool,
    groups: int,
) -> Tensor:  # [M, D]
    """Return `y[o] = bias + sum over t of mask[o, t] x(positions[o, t]) W[t]`, group by group."""
    if nothing(features, heads, weight):
        given = (features, coords, blocks, sites, heads, grid, weight, bias, parts, squash, groups)
        return reference.deform_conv(*given)
    given = _tensors(features, blocks, sites, heads, grid, weight, groups)
    *place, weight = given
    if bias is not None:
        bias = dense("bias", bias, features.dtype, 1)
        if bias.shape[0] != weight.shape[2]:
            raise ValueError(complain("bias", f"[{weight.shape[2]}]", f"{list(bias.shape)}"))
    y = features.new_empty(heads.shape[0], weight.shape[2])
    _native.deform_conv(
        DTYPES[features.dtype],
        _place(*place, parts),
        features.shape[1],
        weight.shape[2],
        groups,
        squash,
        place[0].data_ptr(),
        weight.data_ptr(),
        address(bias),
        y.data_ptr(),
        torch.get_num_threads(),
    )
    return y


def deform_conv_grad(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    heads: Tensor,  # [M, R]
    grid: Tensor,  # [K, 3]
    weight: Tensor,  # [K, C / G, D]
    grad: Tensor,  # [M, D]
    parts: int,
    squash: bool,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor]:  # [N, C], [M, R], [K, C / G, D]
    """Return the gradients of features, heads and weight."""
    if nothing(features, heads, weight):
        given = (features, coords, blocks, sites, heads, grid, weight, grad, parts, squash, groups)
        return reference.deform_conv_grad(*given)
    given = _tensors(features, blocks, sites, heads, grid, weight, groups)
    *place, weight = given
    grad = gradient(grad, features, heads.shape[0], weight.shape[2])
    made = tuple(t.new_empty(t.shape) for t in (features, heads, weight))
    _native.deform_conv_grad(
        DTYPES[features.dtype],
        _place(*place, parts),
        features.shape[1],
        weight.shape[2],
        groups,
        squash,
        place[0].data_ptr(),
        weight.data_ptr(),
        grad.data_ptr(),
        *(tensor.data_ptr() for tensor in made),
        torch.get_num_threads(),
    )
    return made
