"""Read a sparse tensor between its sites, at positions of every output site's own choice."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.functional.conv import by_tap
from sparseconv.geometry import Geometry, Triple
from sparseconv.ops._checks import describe
from sparseconv.ops.deform_conv import deform_conv
from sparseconv.ops.moved_kernel import moved_kernel
from sparseconv.ops.moved_sum import moved_sum
from sparseconv.ops.sample import sample_sum
from sparseconv.tensor.sparse_tensor import SparseTensor


def tap_grid(
    geometry: Geometry,
    scale: float = 1.0,
    *,
    centre: bool = True,
) -> Tensor:  # [K, 3] float64
    """Return where the taps lie, voxels from `o * stride`: scaled about the window's centre.

    `middle + scale * (tap * dilation - half)`, with `half = dilation * (kernel_size - 1) // 2` and
    `middle = half - padding`; with a scale of 1 this is `tap * dilation - padding`.

    Args:
        geometry: of the kernel.
        scale: of the grid of taps.
        centre: whether the tap in the middle of the list is among them.
    """
    reach = zip(geometry.dilation, geometry.size, geometry.padding, strict=True)
    middle = torch.tensor([d * (k - 1) // 2 - p for d, k, p in reach], dtype=torch.float64)
    grid = torch.tensor(geometry.offsets, dtype=torch.float64).reshape(-1, 3)
    grid = middle + scale * (grid - middle)
    half = geometry.taps // 2
    return grid if centre else torch.cat([grid[:half], grid[half + 1 :]])


def _taps(geometry: Geometry) -> Tensor:  # [K, 3] int64
    return torch.tensor(geometry.offsets).reshape(-1, 3)


def _where(
    x: SparseTensor,
    offsets: Tensor,  # [M, K, G, 3]
    grid: Tensor,  # [K, 3]
    stride: Triple,
    sites: SparseTensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return coords, block index, items of the output sites and positions, all from one middle."""
    taps = grid.shape[0]
    if offsets.dim() != 4 or offsets.shape[1] != taps or offsets.shape[3] != 3:
        raise ValueError(complain("offsets", f"shape [M, {taps}, G, 3]", describe(offsets)))
    offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
    coords, blocks, middle = x.topology.centred(x.level)
    step = torch.tensor(stride, device=offsets.device)
    base = (sites.coords[:, 1:] * step - middle).to(offsets.dtype)
    positions = (base[:, None] + grid.to(offsets))[:, :, None] + offsets
    return coords, blocks, sites.coords[:, 0].contiguous(), positions


def weighted_samples(
    x: SparseTensor,  # [N, C]
    offsets: Tensor,  # [M, K, G, 3]
    weights: Tensor | None,  # [M, K, G]
    grid: Tensor,  # [K, 3]
    sites: SparseTensor,
    stride: Triple = (1, 1, 1),
) -> SparseTensor:  # [M, C]
    """Sum what is read about every output site, at taps moved by offsets of its own.

    `y[o, c] = sum over taps t of weights[o, t, g] x(o * stride + grid[t] + offsets[o, t, g])[c]`,
    `g = c // (C / G)`. `x(p)` is trilinear between the eight sites around p; sites that are absent
    add 0.

    Args:
        x: [N, C].
        offsets: [M, K, G, 3] in voxels of the lattice of `x`, for G groups of channels.
        weights: [M, K, G], or None for ones.
        grid: [K, 3], where taps lie without offsets, in voxels; `tap_grid` gives a kernel's.
        sites: its M sites are those of the result; its features are not read.
        stride: voxels of the lattice of `x` per voxel of that of `sites`.

    Returns:
        [M, C] at the sites of `sites`. Positions are kept in float32, or float64 where the offsets
        are, under autocast too.

    Raises:
        TypeError, ValueError: dtypes or shapes do not fit.

    Source:
        Wang et al., "InternImage", arXiv:2211.05778, equation 2.
    """
    *lattice, positions = _where(x, offsets, grid, stride, sites)
    weights = None if weights is None else weights.to(x.dtype)
    features = sample_sum(x.features, *lattice, positions, weights)
    return SparseTensor.at(sites.topology, sites.level, features)


def predicted_samples(
    x: SparseTensor,  # [N, C]
    query: Tensor,  # [M, Q]
    weight: Tensor,  # [4 G K, Q]
    bias: Tensor,  # [4 G K]
    grid: Tensor,  # [K, 3]
    sites: SparseTensor,
    stride: Triple = (1, 1, 1),
    *,
    groups: int = 1,
    softmax: bool = False,
    renormalize: bool = False,
) -> SparseTensor:  # [M, C]
    """Sum what is read about every output site, at taps and with weights a linear map predicts.

    As `weighted_samples`, with offsets [G, K, 3] and weights [G, K] of a site being
    `weight query + bias`: they are made where they are used, and never held for all sites.

    Args:
        x: [N, C].
        query: [M, Q], a row for each of the sites.
        weight: [4 G K, Q], the rows of offsets before those of weights.
        bias: [4 G K].
        grid: [K, 3], where taps lie without offsets, in voxels; `tap_grid` gives a kernel's.
        sites: its M sites are those of the result; its features are not read.
        stride: voxels of the lattice of `x` per voxel of that of `sites`.
        groups: G, groups of channels with taps of their own.
        softmax: whether weights go through a softmax over the taps.
        renormalize: whether to divide by what of the weights fell on sites.

    Returns:
        [M, C] at the sites of `sites`. Predictions are made in float32, or float64 where the
        features are, under autocast too.

    Raises:
        TypeError, ValueError: dtypes or shapes do not fit.

    Source:
        Wang et al., "InternImage", arXiv:2211.05778, equation 2.
    """
    wide = torch.promote_types(x.features.dtype, torch.float32)
    given = (t.to(wide) for t in (weight, bias, grid))
    coords, base = x.topology.levels[x.level].coords, _scaled(sites.coords, stride)
    where = coords, x.topology.blocks(x.level), base
    features = moved_sum(x.features, *where, query, *given, groups, softmax, renormalize)
    return SparseTensor.at(sites.topology, sites.level, features)


def _scaled(
    coords: Tensor,  # [M, 4] int32
    stride: Triple,
) -> Tensor:  # [M, 4] int32
    """Return sites on the lattice that is so many times finer."""
    if stride == (1, 1, 1):
        return coords
    return coords * torch.tensor([1, *stride], dtype=coords.dtype, device=coords.device)


def deform_conv3d(
    x: SparseTensor,  # [N, C]
    offsets: Tensor,  # [M, K, H, 3]
    mask: Tensor | None,  # [M, K, H]
    weight: Tensor,  # [D, C / G, kx, ky, kz]
    bias: Tensor | None,  # [D]
    geometry: Geometry,
    sites: SparseTensor,
    *,
    groups: int = 1,
) -> SparseTensor:  # [M, D]
    """Convolve with taps moved by offsets of every output site's own.

    `y[o] = b + sum over taps t of W[t] mask[o, t] x(o * stride - padding + t * dilation +
    offsets[o, t])`. `x(p)` is trilinear; sites that are absent add 0. Equals the same on the
    zero-filled grid, at any occupancy.

    Args:
        x: [N, C].
        offsets: [M, K, H, 3] in voxels of the lattice of `x`, for H groups of input channels.
        mask: [M, K, H], or None for ones.
        weight: [D, C / G, kx, ky, kz].
        bias: [D].
        geometry: of the kernel.
        sites: its M sites are those of the result; its features are not read.
        groups: G.

    Returns:
        [M, D] at the sites of `sites`. Positions are kept in float32, or float64 where the offsets
        are, under autocast too.

    Raises:
        TypeError, ValueError: dtypes or shapes do not fit.

    Source:
        Dai et al., arXiv:1703.06211; Zhu et al., arXiv:1811.11168.
    """
    if offsets.dim() != 4 or offsets.shape[1] != geometry.taps or offsets.shape[3] != 3:
        expected = f"shape [M, {geometry.taps}, G, 3]"
        raise ValueError(complain("offsets", expected, describe(offsets)))
    heads, parts = offsets.transpose(1, 2).flatten(1), offsets.shape[2]
    if mask is not None:
        heads = torch.cat([heads, mask.transpose(1, 2).flatten(1).to(heads.dtype)], 1)
    given = x, heads, weight, bias, geometry, sites
    return moved_conv3d(*given, parts=parts, squash=False, groups=groups)


def moved_conv3d(
    x: SparseTensor,  # [N, C]
    heads: Tensor,  # [M, 3 H K] or [M, 4 H K]
    weight: Tensor,  # [D, C / G, kx, ky, kz]
    bias: Tensor | None,  # [D]
    geometry: Geometry,
    sites: SparseTensor,
    *,
    parts: int = 1,
    squash: bool = True,
    groups: int = 1,
) -> SparseTensor:  # [M, D]
    """Do what `deform_conv3d` does, with offsets and masks as a convolution predicts them.

    Args:
        x: [N, C].
        heads: [M, 3 H K], offsets [H, K, 3] of every site in voxels of the lattice of `x`; or
            [M, 4 H K] with masks [H, K] behind them.
        weight: [D, C / G, kx, ky, kz].
        bias: [D].
        geometry: of the kernel.
        sites: its M sites are those of the result; its features are not read.
        parts: H, groups of input channels.
        squash: whether a mask is the sigmoid of its head.
        groups: G.

    Returns:
        [M, D] at the sites of `sites`. Offsets are kept in float32, or float64 where they are.

    Raises:
        TypeError, ValueError: dtypes or shapes do not fit.

    Source:
        Dai et al., arXiv:1703.06211; Zhu et al., arXiv:1811.11168.
    """
    heads = heads.to(torch.promote_types(heads.dtype, torch.float32))
    grid = torch.tensor(geometry.offsets, dtype=heads.dtype, device=heads.device).reshape(-1, 3)
    coords, base = x.topology.levels[x.level].coords, _scaled(sites.coords, geometry.stride)
    given = coords, x.topology.blocks(x.level), base, heads, grid, by_tap(weight), bias
    features = deform_conv(x.features, *given, parts, squash, groups)
    return SparseTensor.at(sites.topology, sites.level, features)


def moved_kernel3d(
    x: SparseTensor,  # [N, C]
    heads: Tensor,  # [M, 6 R K]
    weight: Tensor,  # [C, 1, Sx, Sy, Sz]
    start: Tensor,  # [K, 3]
    geometry: Geometry,
    sites: SparseTensor,
    *,
    parts: int = 1,
) -> SparseTensor:  # [M, C]
    """Weigh moved taps by a kernel that every output site reads between its cells.

    `y[o, c] = sum over taps t of W(start[t] + e[o, r, t])[c] x(o * stride - padding +
    t * dilation + d[o, r, t])[c]`, `r = c // (C / R)`; x and W are trilinear, and 0 where no site
    is and beyond the kernel.

    Args:
        x: [N, C].
        heads: [M, 6 R K], offsets d [R, K, 3] in voxels of the lattice of `x`, and behind them e
            [R, K, 3] in cells of the kernel.
        weight: [C, 1, Sx, Sy, Sz].
        start: [K, 3], where each tap reads the kernel without offsets, in cells.
        geometry: of the taps.
        sites: its M sites are those of the result; its features are not read.
        parts: R, groups of channels with offsets of their own.

    Returns:
        [M, C] at the sites of `sites`. Offsets are kept in float32, or float64 where the features
        are, under autocast too.

    Raises:
        TypeError, ValueError: dtypes or shapes do not fit.

    Source:
        Gao et al., "Deformable Kernels", arXiv:1910.02940; Dai et al., arXiv:1703.06211.
    """
    wide = torch.promote_types(x.features.dtype, torch.float32)
    grid = torch.tensor(geometry.offsets, dtype=wide, device=heads.device).reshape(-1, 3)
    coords, base = x.topology.levels[x.level].coords, _scaled(sites.coords, geometry.stride)
    where = coords, x.topology.blocks(x.level), base, heads.to(wide), grid
    cells, scope = weight.flatten(1).t().contiguous(), list(weight.shape[2:])
    features = moved_kernel(x.features, *where, cells, start.to(wide), scope, parts)
    return SparseTensor.at(sites.topology, sites.level, features)


def dead_fraction(
    x: SparseTensor,
    offsets: Tensor,  # [M, K, G, 3]
    geometry: Geometry,
    sites: SparseTensor,
) -> Tensor:  # []
    """Return the fraction of moved taps that read nothing: no site is active about them.

    The gradient of their offsets is 0, so that they stay where they are.

    Args:
        x: whose sites are read.
        offsets: [M, K, G, 3] in voxels of the lattice of `x`.
        geometry: of the kernel.
        sites: its M sites are those the offsets belong to.

    Returns:
        A number of 0 to 1, a tensor without axes and without gradient; 0 where there are no taps.

    Raises:
        ValueError: the offsets do not fit the sites and taps.
    """
    where = x, offsets.detach(), _taps(geometry), geometry.stride, sites
    coords, blocks, items, positions = _where(*where)
    ones = torch.ones(len(x), 1, dtype=positions.dtype, device=positions.device)
    items = items.repeat_interleave(positions.shape[1] * positions.shape[2])
    found = sample_sum(ones, coords, blocks, items, positions.reshape(-1, 1, 1, 3), None)
    return (found == 0).to(positions.dtype).sum() / max(found.shape[0], 1)
