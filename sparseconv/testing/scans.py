"""Dense convolutions of one scan after the other, each with a kernel of its own, for oracles."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing import oracle


def means(x: SparseTensor, pool: str = "active") -> Tensor:  # [B, C]
    """Return the mean of every scan over its active sites, or over all cells of its lattice."""
    found = []
    for item in range(x.batch_size):
        mine = x.features[x.coords[:, 0] == item]
        x_cells, y_cells, z_cells = x.spatial_shape or (1, 1, 1)
        count = len(mine) if pool == "active" else x_cells * y_cells * z_cells
        found.append(mine.sum(0) / max(count, 1))
    return torch.stack(found)


def convolved(
    grid: Tensor,  # [B, C, X, Y, Z]
    kernels: Tensor,  # [B, D, C / G, kx, ky, kz]
    bias: Tensor | None,  # [B, D]
    spec: oracle.Spec,
    groups: int = 1,
) -> Tensor:  # [B, D, X', Y', Z']
    """Convolve every scan of a grid with its own kernel."""
    scans = [
        oracle.dense_conv(
            grid[b : b + 1], kernels[b], None if bias is None else bias[b], spec, groups
        )
        for b in range(len(grid))
    ]
    return torch.cat(scans)
