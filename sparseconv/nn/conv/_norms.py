"""Norms inside layers, chosen by name, with the ReLU that follows them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.nn.norm import BatchNorm

NORMS = ("batch", "layer", None)


def norm_named(
    norm: str | None,
    channels: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Return a norm of rows: `"batch"`, `"layer"`, or None for none.

    Raises:
        ValueError: no such norm.
    """
    if norm not in NORMS:
        raise ValueError(complain("norm", "'batch', 'layer' or None", repr(norm)))
    if norm == "batch":
        return BatchNorm(channels, device=device, dtype=dtype)
    return nn.LayerNorm(channels, device=device, dtype=dtype) if norm else nn.Identity()


def normed_relu(
    norm: nn.Module,
    rows: Tensor,  # [N, C]
) -> Tensor:  # [N, C]
    """Return `relu(norm(rows))`, in one pass where the norm is a batch norm."""
    if isinstance(norm, BatchNorm):
        return norm(rows, relu=True)
    return norm(rows).relu()
