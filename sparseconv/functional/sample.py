"""Read a sparse tensor between its sites, at positions of every output site's own choice."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.functional.conv import by_tap
from sparseconv.geometry import Geometry
from sparseconv.ops._checks import describe
from sparseconv.ops.sample import deform_conv, sample_sum
from sparseconv.tensor.sparse_tensor import SparseTensor


def tap_grid(
    geometry: Geometry,
    scale: float,
    like: Tensor,
) -> Tensor:  # [K, 3]
    """Return where the taps lie, voxels from `o * stride`: scaled about the window's centre.

    `centre + scale * (tap * dilation - half)`, with `half = dilation * (kernel_size - 1) // 2` and
    `centre = half - padding`; with a scale of 1 this is `tap * dilation - padding`.
    """
    offsets = torch.tensor(geometry.offsets, dtype=like.dtype, device=like.device).reshape(-1, 3)
    reach = zip(geometry.dilation, geometry.size, geometry.padding, strict=True)
    centre = [d * (k - 1) // 2 - p for d, k, p in reach]
    middle = torch.tensor(centre, dtype=like.dtype, device=like.device)
    return middle + scale * (offsets - middle)


def _where(
    x: SparseTensor,
    offsets: Tensor,  # [M, K, G, 3]
    geometry: Geometry,
    sites: SparseTensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return coords, block index, items of the output sites and positions, all from one middle."""
    if offsets.dim() != 4 or offsets.shape[1] != geometry.taps or offsets.shape[3] != 3:
        expected = f"shape [M, {geometry.taps}, G, 3]"
        raise ValueError(complain("offsets", expected, describe(offsets)))
    offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
    coords, blocks, middle = x.topology.centred(x.level)
    stride = torch.tensor(geometry.stride, device=offsets.device)
    base = (sites.coords[:, 1:] * stride - middle).to(offsets.dtype)
    grid = base[:, None] + tap_grid(geometry, scale, offsets)
    positions = torch.add(grid[:, :, None], offsets, alpha=scale)
    return coords, blocks, sites.coords[:, 0].contiguous(), positions


def weighted_samples(
    x: SparseTensor,  # [N, C]
    offsets: Tensor,  # [M, K, G, 3]
    weights: Tensor | None,  # [M, K, G]
    geometry: Geometry,
    sites: SparseTensor,
    *,
    scale: float = 1.0,
) -> SparseTensor:  # [M, C]
    """Sum what is read about every output site, at taps moved by offsets of its own.

    `y[o, c] = sum over taps t of weights[o, t, g] x(p[o, t, g])[c]` with `g = c // (C / G)` and
    `p[o, t, g] = o * stride + centre + scale * (tap * dilation - half + offsets[o, t, g])`, half
    and centre being `dilation * (kernel_size - 1) // 2` and that less the padding: with a scale of
    1, where a convolution reads, plus the offset. `x(p)` is trilinear; sites that are absent add 0.

    Args:
        x: [N, C].
        offsets: [M, K, G, 3] in voxels of the lattice of `x`, for G groups of channels.
        weights: [M, K, G], or None for ones.
        geometry: of the kernel.
        sites: its M sites are those of the result; its features are not read.
        scale: of the grid of taps and the offsets.

    Returns:
        [M, C] at the sites of `sites`. Positions are kept in float32, or float64 where the offsets
        are, under autocast too.

    Raises:
        TypeError, ValueError: dtypes or shapes do not fit.

    Source:
        Wang et al., "InternImage", arXiv:2211.05778, equation 2.
    """
    *lattice, positions = _where(x, offsets, geometry, sites, scale)
    weights = None if weights is None else weights.to(x.dtype)
    features = sample_sum(x.features, *lattice, positions, weights)
    return SparseTensor.at(sites.topology, sites.level, features)


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
    *lattice, positions = _where(x, offsets, geometry, sites, 1.0)
    mask = None if mask is None else mask.to(x.dtype)
    features = deform_conv(x.features, *lattice, positions, mask, by_tap(weight), bias, groups)
    return SparseTensor.at(sites.topology, sites.level, features)


def dead_fraction(
    x: SparseTensor,
    offsets: Tensor,  # [M, K, G, 3]
    geometry: Geometry,
    sites: SparseTensor,
    *,
    scale: float = 1.0,
) -> Tensor:  # []
    """Return the fraction of moved taps that read nothing: no site is active about them.

    The gradient of their offsets is 0, so that they stay where they are.

    Args:
        x: whose sites are read.
        offsets: [M, K, G, 3] in voxels of the lattice of `x`.
        geometry: of the kernel.
        sites: its M sites are those the offsets belong to.
        scale: of the grid of taps and the offsets.

    Returns:
        A number of 0 to 1, a tensor without axes and without gradient; 0 where there are no taps.

    Raises:
        ValueError: the offsets do not fit the sites and taps.
    """
    coords, blocks, items, positions = _where(x, offsets.detach(), geometry, sites, scale)
    ones = torch.ones(len(x), 1, dtype=positions.dtype, device=positions.device)
    items = items.repeat_interleave(positions.shape[1] * positions.shape[2])
    found = sample_sum(ones, coords, blocks, items, positions.reshape(-1, 1, 1, 3), None)
    return (found == 0).to(positions.dtype).sum() / max(found.shape[0], 1)
