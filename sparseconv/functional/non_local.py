"""Sums over all pairs of sites of a scan whose affinity needs no matrix of pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv.functional.per_item import of_items
from sparseconv.ops.aggregate import aggregate
from sparseconv.ops.conv import conv, conv_grad_weight
from sparseconv.ops.running import running_sums
from sparseconv.tensor.sparse_tensor import SparseTensor


def _per_key(keys: SparseTensor, dtype: torch.dtype) -> Tensor:  # [B]
    """Return one over the number of keys of each item."""
    return 1 / keys.topology.items(keys.level).counts.clamp(min=1).to(dtype)


def dot_sum(
    queries: Tensor,  # [N, E]
    keys: Tensor,  # [M, E]
    values: Tensor,  # [M, F]
    x: SparseTensor,  # N rows
    source: SparseTensor,  # M rows
) -> Tensor:  # [N, F]
    """Average values weighed by dot products: `y[i] = 1 / M_b sum over j of <q[i], k[j]> v[j]`.

    `q (k^T v)` takes time and memory linear in the sites, where `(q k^T) v` would be quadratic.

    Args:
        queries: float [N, E], a row per site of `x`.
        keys: float [M, E], a row per site of `source`.
        values: float [M, F].
        x: whose features are not read.
        source: whose features are not read; M_b are its sites of scan b.

    Returns:
        float [N, F]; 0 where a scan has no key.
    """
    theirs = source.topology.items(source.level)
    order = theirs.order.to(torch.int32)
    # sums over many sites, which 16 bits may not hold
    wide = torch.promote_types(values.dtype, torch.float32)
    product = conv_grad_weight(keys.to(wide), values.to(wide), order, order, theirs.ends)
    product = (product * _per_key(source, wide)[:, None, None]).to(queries.dtype)
    ours = x.topology.items(x.level)
    order = ours.order.to(torch.int32)
    # the pairs of one tap are a row and itself, which read backwards are the same
    alone = x.batch_size <= 1
    return conv(queries, product, None, order, order, ours.ends, queries.shape[0], symmetric=alone)


def ramp_sum(
    a: Tensor,  # [N]
    b: Tensor,  # [M]
    values: Tensor,  # [M, F]
    x: SparseTensor,  # N rows
    source: SparseTensor,  # M rows
) -> Tensor:  # [N, F]
    """Average values weighed by ramps: `y[i] = 1 / M_b sum over j of max(a[i] + b[j], 0) v[j]`.

    With keys sorted by b, the j that count for i are those behind some place, so that two running
    sums, of `v` and of `b v`, give every y: O((N + M) log(N + M)) instead of O(N M).

    Args:
        a: float [N], a number per site of `x`.
        b: float [M], a number per site of `source`.
        values: float [M, F].
        x: whose features are not read.
        source: whose features are not read; M_b are its sites of scan b.

    Returns:
        float [N, F]; 0 where a scan has no key.
    """
    dtype = torch.promote_types(values.dtype, torch.float32)
    a, b, wide = a.to(dtype), b.to(dtype), values.to(dtype)
    ours, theirs = (t.topology.items(t.level) for t in (x, source))
    count = b.shape[0]
    order, first = _behind(-a.detach(), b.detach(), ours.of_row, theirs.of_row)
    # rows that no key is behind read a row of their own item, times 0
    end = theirs.ends[1:][ours.of_row]
    some = first < end
    first = torch.minimum(first, end - 1).clamp(min=0).to(torch.int32)
    places = torch.arange(count, dtype=torch.int32, device=b.device)
    sources = order.to(torch.int32)
    sorted_b = aggregate(b[:, None], sources, places, None, count)[:, 0]
    plain = running_sums(aggregate(wide, sources, places, None, count), theirs.ends, reverse=True)
    times_b = aggregate(wide, sources, places, sorted_b, count)
    times_b = running_sums(times_b, theirs.ends, reverse=True)
    share = some.to(dtype) * of_items(_per_key(source, dtype), x)
    rows = torch.arange(a.shape[0], dtype=torch.int32, device=a.device)
    y = aggregate(plain, first, rows, a * share, a.shape[0])
    y = y + aggregate(times_b, first, rows, share, a.shape[0])
    return y.to(values.dtype)


def _behind(
    bounds: Tensor,  # [N]
    keys: Tensor,  # [M]
    item_of_bound: Tensor,  # [N] int32
    item_of_key: Tensor,  # [M] int32
) -> tuple[Tensor, Tensor]:  # [M] int64, [N] int64
    """Return keys sorted by item and value, and the place behind those not above each bound."""
    count, device = keys.shape[0], keys.device
    items = torch.cat([item_of_key, item_of_bound])
    # stable, keys first: a key equal to a bound comes before it
    joint = torch.argsort(torch.cat([keys, bounds]), stable=True)
    joint = joint[torch.argsort(items[joint], stable=True)]
    passed = (joint < count).to(torch.int64).cumsum(0)
    where = torch.empty_like(joint).scatter_(0, joint, torch.arange(joint.shape[0], device=device))
    passed = passed[where]
    order = torch.empty_like(joint[:count]).scatter_(
        0, passed[:count] - 1, torch.arange(count, device=device)
    )
    return order, passed[count:]
