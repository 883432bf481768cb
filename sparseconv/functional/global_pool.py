"""One vector per scan: sum, average and maximum over its active sites."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.functional.per_item import sum_by_item
from sparseconv.ops.pool import pool_max
from sparseconv.tensor.sparse_tensor import SparseTensor


def global_sum_pool(x: SparseTensor) -> Tensor:  # [B, C]
    """Sum the features of each scan: [N, C] to [B, C]; 0 for an empty scan."""
    return sum_by_item(x.features, x)


def global_avg_pool(
    x: SparseTensor,  # [N, C]
    pool: str = "active",
) -> Tensor:  # [B, C]
    """Average the features of each scan; 0 for an empty one.

    Args:
        x: [N, C].
        pool: divide by the active sites of the scan (`"active"`), or by all cells of the lattice
            (`"volume"`, the mean of the zero-filled grid, at any occupancy).

    Returns:
        [B, C].

    Raises:
        ValueError: no such `pool`, or `"volume"` of an unbounded lattice.
    """
    check_pool(pool)
    total = global_sum_pool(x)
    if pool == "volume":
        if x.spatial_shape is None:
            cure = "give the SparseTensor its spatial_shape, or average over 'active' sites"
            raise ValueError(complain("pool", "a bounded lattice for 'volume'", "none", cure))
        return total / max(prod(x.spatial_shape), 1)
    if x.batch_size == 1:
        return total / max(x.coords.shape[0], 1)
    counts = x.topology.items(x.level).counts
    return total / counts.clamp(min=1)[:, None].to(total.dtype)


def check_pool(pool: str) -> None:
    """Refuse a kind of average that does not exist."""
    if pool not in ("active", "volume"):
        raise ValueError(complain("pool", "'active' or 'volume'", repr(pool)))


def global_max_pool(x: SparseTensor) -> Tensor:  # [B, C]
    """Take the maximum of each channel over each scan's active sites: [B, C]; 0 if empty."""
    rows = torch.arange(x.coords.shape[0], dtype=torch.int32, device=x.device)
    items = x.topology.items(x.level).of_row
    return pool_max(x.features, rows, items, x.batch_size)[0]
