"""One vector per scan: sum, average and maximum over its active sites."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv.ops.aggregate import aggregate
from sparseconv.ops.pool import pool_max
from sparseconv.tensor.sparse_tensor import SparseTensor


def _rows(x: SparseTensor) -> tuple[Tensor, Tensor]:
    count = x.coords.shape[0]
    rows = torch.arange(count, dtype=torch.int32, device=x.device)
    return rows, x.coords[:, 0].contiguous()


def global_sum_pool(x: SparseTensor) -> Tensor:  # [B, C]
    """Sum the features of each scan: [N, C] to [B, C]; 0 for an empty scan."""
    return aggregate(x.features, *_rows(x), None, x.batch_size)


def global_avg_pool(x: SparseTensor) -> Tensor:  # [B, C]
    """Average the features of each scan over its active sites: [B, C]; 0 for an empty scan."""
    total = global_sum_pool(x)
    sites = torch.zeros(x.batch_size, dtype=torch.int64, device=x.device)
    sites = sites.index_add(0, x.coords[:, 0], torch.ones_like(x.coords[:, 0], dtype=torch.int64))
    return total / sites.clamp(min=1)[:, None].to(total.dtype)


def global_max_pool(x: SparseTensor) -> Tensor:  # [B, C]
    """Take the maximum of each channel over each scan's active sites: [B, C]; 0 if empty."""
    return pool_max(x.features, *_rows(x), x.batch_size)[0]
