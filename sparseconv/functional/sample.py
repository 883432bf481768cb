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


def tap_positions(
    sites: SparseTensor,
    geometry: Geometry,
    offsets: Tensor,  # [M, K, G, 3]
    *,
    scale: float = 1.0,
) -> Tensor:  # [M, K, G, 3]
    """Move the taps of every output site by its own offsets.

    `p[o, t, g] = o * stride + centre + scale * (tap * dilation - half + offsets[o, t, g])`; see
    `tap_grid`. With a scale of 1 that is where a convolution reads, plus the offset.

    Args:
        sites: its sites are the output sites; its features are not read.
        geometry: of the kernel, from the lattice that is read to that of `sites`.
        offsets: [M, K, G, 3], voxels.
        scale: of the grid of taps and the offsets.

    Returns:
        [M, K, G, 3] in voxels of the lattice that is read, float32, or float64 where the offsets
        are.

    Raises:
        ValueError: the offsets do not fit the sites and taps.
    """
    if offsets.dim() != 4 or offsets.shape[1] != geometry.taps or offsets.shape[3] != 3:
        expected = f"shape [M, {geometry.taps}, G, 3]"
        raise ValueError(complain("offsets", expected, describe(offsets)))
    offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
    stride = torch.tensor(geometry.stride, dtype=torch.int32, device=offsets.device)
    base = (sites.coords[:, 1:] * stride).to(offsets.dtype)
    grid = base[:, None] + tap_grid(geometry, scale, offsets)
    return torch.add(grid[:, :, None], offsets, alpha=scale)


def _lattice(x: SparseTensor) -> tuple[Tensor, Tensor]:
    return x.coords, x.topology.table(x.level)


def _items(sites: SparseTensor) -> Tensor:
    return sites.coords[:, 0].contiguous()


def weighted_samples(
    x: SparseTensor,  # [N, C]
    positions: Tensor,  # [M, K, G, 3]
    weights: Tensor | None,  # [M, K, G]
    sites: SparseTensor,
) -> SparseTensor:  # [M, C]
    """Sum what is read between sites: `y[o] = sum over t of weights[o, t] x(positions[o, t])`.

    A position is read from the eight sites around it, those that are absent adding 0.

    Args:
        x: [N, C].
        positions: [M, K, G, 3] in voxels of the lattice of `x`; group g holds the channels
            `g * C / G` to `(g + 1) * C / G`.
        weights: [M, K, G], or None for ones.
        sites: its M sites are those of the result; its features are not read.

    Returns:
        [M, C] at the sites of `sites`.

    Raises:
        TypeError, ValueError: dtypes or shapes do not fit.
    """
    weights = None if weights is None else weights.to(x.dtype)
    features = sample_sum(x.features, *_lattice(x), _items(sites), positions, weights)
    return SparseTensor.at(sites.topology, sites.level, features)


def deform_conv3d(
    x: SparseTensor,  # [N, C]
    positions: Tensor,  # [M, K, H, 3]
    mask: Tensor | None,  # [M, K, H]
    weight: Tensor,  # [D, C / G, kx, ky, kz]
    bias: Tensor | None,  # [D]
    sites: SparseTensor,
    *,
    groups: int = 1,
) -> SparseTensor:  # [M, D]
    """Convolve what is read between sites.

    `y[o] = b + sum over taps t of W[t] mask[o, t] x(positions[o, t])`. Equals sampling the
    zero-filled grid, at any occupancy.

    Args:
        x: [N, C].
        positions: [M, K, H, 3] in voxels of the lattice of `x`, for H groups of input channels.
        mask: [M, K, H], or None for ones.
        weight: [D, C / G, kx, ky, kz].
        bias: [D].
        sites: its M sites are those of the result; its features are not read.
        groups: G.

    Returns:
        [M, D] at the sites of `sites`.

    Raises:
        TypeError, ValueError: dtypes or shapes do not fit.

    Source:
        Dai et al., arXiv:1703.06211; Zhu et al., arXiv:1811.11168.
    """
    mask = None if mask is None else mask.to(x.dtype)
    features = deform_conv(
        x.features, *_lattice(x), _items(sites), positions, mask, by_tap(weight), bias, groups
    )
    return SparseTensor.at(sites.topology, sites.level, features)


def dead_fraction(
    x: SparseTensor,
    positions: Tensor,  # [M, K, G, 3]
    sites: SparseTensor,
) -> Tensor:  # []
    """Return the fraction of positions about which no site is active: they read 0 and learn not.

    Args:
        x: whose sites are read.
        positions: [M, K, G, 3] in voxels of the lattice of `x`.
        sites: its M sites are those the positions belong to.

    Returns:
        A number of 0 to 1, a tensor without axes and without gradient; 0 where there are no
        positions.
    """
    per_site = positions.shape[1] * positions.shape[2]
    ones = torch.ones(len(x), 1, dtype=positions.dtype, device=positions.device)
    items = _items(sites).repeat_interleave(per_site)
    flat = positions.detach().reshape(-1, 1, 1, 3)
    found = sample_sum(ones, *_lattice(x), items, flat, None)
    return (found == 0).to(positions.dtype).sum() / max(found.shape[0], 1)
