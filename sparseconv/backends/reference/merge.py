"""The rulebooks of several scans as that of their batch, in plain torch."""

import torch
from torch import Tensor


def join_rows(
    segments: Tensor,  # [B, K + 1] int64
    rows: list[Tensor],  # B of [P_b] int32
    starts: list[int],  # B
) -> Tensor:  # [P] int32
    """Return, tap by tap, the rows of all parts in turn, each with its start added."""
    sizes = segments.diff(dim=1).tolist()
    parts = [(r + start).split(size) for r, start, size in zip(rows, starts, sizes, strict=True)]
    none = rows[0].new_zeros(0)
    return torch.cat([none, *(piece for pieces in zip(*parts, strict=True) for piece in pieces)])
