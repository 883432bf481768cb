"""Attention among the sites of each scan."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv.ops.aggregate import aggregate
from sparseconv.ops.attention import ragged_attention
from sparseconv.tensor.items import Items
from sparseconv.tensor.sparse_tensor import SparseTensor


def _moved(
    rows: Tensor,  # [N, ...]
    source: Tensor,  # [N] int32
    target: Tensor,  # [N] int32
) -> Tensor:
    """Put row `source[n]` at place `target[n]`."""
    flat = rows.flatten(1)
    return aggregate(flat, source, target, None, rows.shape[0]).reshape(rows.shape)


def attention(
    q: Tensor,  # [N, H, E]
    k: Tensor,  # [M, H, E]
    v: Tensor,  # [M, H, F]
    sites: SparseTensor,  # N rows
    keys: SparseTensor,  # M rows
    scale: float,
) -> Tensor:  # [N, H, F]
    """Let every site attend to the sites of its own scan, of the same or another level.

    Rows may be in any order: those of several scans are sorted by scan and put back.

    Args:
        q: float [N, H, E], a row per site of `sites`.
        k: float [M, H, E], a row per site of `keys`.
        v: float [M, H, F].
        sites: whose features are not read.
        keys: whose features are not read.
        scale: what logits are multiplied with.

    Returns:
        float [N, H, F]; see `ragged_attention`.
    """
    ours, theirs = (x.topology.items(x.level) for x in (sites, keys))
    if sites.batch_size <= 1:
        return ragged_attention(q, k, v, ours.ends, theirs.ends, scale)
    place, order = _places(ours)
    sorted_keys = _places(theirs)[1]
    at_keys = torch.arange(k.shape[0], dtype=torch.int32, device=k.device)
    y = ragged_attention(
        _moved(q, order, place),
        _moved(k, sorted_keys, at_keys),
        _moved(v, sorted_keys, at_keys),
        ours.ends,
        theirs.ends,
        scale,
    )
    return _moved(y, place, order)


def _places(items: Items) -> tuple[Tensor, Tensor]:
    order = items.order.to(torch.int32)
    return torch.arange(order.shape[0], dtype=torch.int32, device=order.device), order
