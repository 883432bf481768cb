"""Run what is written for sparse tensors on a dense one: a grid all of whose sites are active."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sparseconv.tensor.dense import to_dense
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.topology import ROOT, Level, Topology


def from_full_grid(
    grid: Tensor,  # [B, C, X, Y, Z]
) -> SparseTensor:  # [B * X * Y * Z, C]
    """Return every cell of a grid as an active site, in lexicographic order."""
    size, channels, *extent = grid.shape
    axes = [torch.arange(n, dtype=torch.int32, device=grid.device) for n in (size, *extent)]
    coords = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 4)
    features = grid.permute(0, 2, 3, 4, 1).reshape(-1, channels)
    level = Level(coords, (1, 1, 1), tuple(extent), size)
    return SparseTensor.at(Topology.of(level), ROOT, features)


def on_full_grid(
    run: Callable[[SparseTensor], SparseTensor],
    grid: Tensor,  # [B, C, X, Y, Z]
) -> Tensor:  # [B, D, X', Y', Z']
    """Apply a function of sparse tensors to a dense one.

    Args:
        run: from a sparse tensor to one on the same or another level.
        grid: [B, C, X, Y, Z].

    Returns:
        [B, D, X', Y', Z'], zeros where the result has no site.
    """
    x = from_full_grid(grid)
    y = run(x)
    if y.level == x.level and y.topology is x.topology:
        size, _, *extent = grid.shape
        return y.features.reshape(size, *extent, y.channels).permute(0, 4, 1, 2, 3)
    return to_dense(y)
