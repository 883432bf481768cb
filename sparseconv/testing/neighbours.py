"""Neighbours written out in full, [M, K, C], for oracles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from sparseconv.testing.oracle import spread


def offsets(kernel: int | Sequence[int], dilation: int | Sequence[int] = 1) -> list[tuple]:
    """Return what each tap of a kernel about its site reads, taps x-major."""
    gap = spread(dilation)
    axes = [
        [i * d - d * (k - 1) // 2 for i in range(k)]
        for k, d in zip(spread(kernel), gap, strict=True)
    ]
    return list(product(*axes))


def table(
    coords: Tensor,  # [N, 4]
    out: Tensor,  # [M, 4]
    taps: Sequence[Sequence[int]],
    stride: int = 1,
) -> Tensor:  # [M, K] int64
    """Return the row each tap of each output site reads, -1 where it is absent."""
    rows = {tuple(site): n for n, site in enumerate(coords.tolist())}
    found = [
        [rows.get((b, *(stride * a + d for a, d in zip(at, tap, strict=True))), -1) for tap in taps]
        for b, *at in out.tolist()
    ]
    return torch.tensor(found, dtype=torch.int64).reshape(len(out), len(taps))


def gathered(
    features: Tensor,  # [N, C]
    rows: Tensor,  # [M, K]
) -> Tensor:  # [M, K, C]
    """Return the features of every neighbour, 0 where it is absent."""
    padded = torch.cat([features, features.new_zeros(1, features.shape[1])])
    return padded[torch.where(rows < 0, len(features), rows)]
