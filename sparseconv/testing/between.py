"""What reading between sites is, by torch's own sampling of zero-filled grids, for oracles.

Like the oracle it knows nothing of the library.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as dense

from sparseconv.testing.oracle import Site, Spec, Triple


def grid_of(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4]
    batch_size: int,
    shape: Triple,
) -> Tensor:  # [B, C, X, Y, Z]
    """Write features on a zero-filled grid, differentiably."""
    grid = features.new_zeros(batch_size, *shape, features.shape[1])
    return grid.index_put(tuple(coords.long().t()), features).permute(0, 4, 1, 2, 3)


def at_sites(
    grid: Tensor,  # [B, C, X, Y, Z]
    sites: Sequence[Site],
) -> Tensor:  # [M, C]
    """Return a grid's values at sites."""
    b, x, y, z = torch.tensor(sites, dtype=torch.int64).reshape(-1, 4).t()
    return grid[b, :, x, y, z]


def taps_of(sites: Sequence[Site], spec: Spec) -> Tensor:  # [M, K, 3] float64
    """Return where a convolution's taps read, for every output site."""
    read = [[spec.reads(site, tap)[1:] for tap in spec.taps] for site in sites]
    return torch.tensor(read, dtype=torch.float64).reshape(-1, len(spec.taps), 3)


def read_between(
    grid: Tensor,  # [B, C, X, Y, Z]
    items: Sequence[int],  # M
    positions: Tensor,  # [M, K, G, 3]
) -> Tensor:  # [M, K, C]
    """Return trilinear samples, zeros outside, channel c of group c // (C / G) at its position."""
    taps, groups = positions.shape[1:3]
    width = grid.shape[1] // groups
    extent = torch.tensor(grid.shape[2:], dtype=positions.dtype)
    # an axis of one cell has no distance between its outer cells: it gets an empty one more
    if (extent == 1).any():
        pad = [side for n in reversed(grid.shape[2:]) for side in (0, int(n == 1))]
        return read_between(dense.pad(grid, pad), items, positions)
    # torch counts the axes backwards and calls the centres of the outer cells -1 and 1
    unit = (2 * positions / (extent - 1) - 1).flip(-1)
    rows = []
    for o, item in enumerate(items):
        parts = [
            dense.grid_sample(
                grid[item : item + 1, g * width : (g + 1) * width],
                unit[o, :, g].reshape(1, taps, 1, 1, 3),
                padding_mode="zeros",
                align_corners=True,
            )[0, :, :, 0, 0].t()
            for g in range(groups)
        ]
        rows.append(torch.cat(parts, 1))
    return torch.stack(rows) if rows else grid.new_zeros(0, taps, grid.shape[1])


def contract(
    read: Tensor,  # [M, K, C]
    weight: Tensor,  # [D, C / G, kx, ky, kz]
    bias: Tensor | None,  # [D]
    groups: int,
) -> Tensor:  # [M, D]
    """Convolve what the taps have read, an output channel at a time."""
    width, per_group = weight.shape[:2]
    columns = []
    for d in range(width):
        first = d // (width // groups) * per_group
        mine = read[:, :, first : first + per_group].transpose(1, 2)
        columns.append((mine * weight[d].reshape(per_group, -1)).sum((1, 2)))
    y = torch.stack(columns, 1)
    return y if bias is None else y + bias
