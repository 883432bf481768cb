"""Softmax attention among the rows of each batch item, some queries at a time, in plain torch."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference.conv import accumulator

# logits held at once
CELLS = 1 << 22


def ragged_attention(
    q: Tensor,  # [N, H, E]
    k: Tensor,  # [M, H, E]
    v: Tensor,  # [M, H, F]
    q_ends: Tensor,  # [B + 1] int64
    k_ends: Tensor,  # [B + 1] int64
    scale: float,
) -> tuple[Tensor, Tensor]:  # [N, H, F], [N, H]
    """Return the attended values and the logarithm of each query's sum of exponentials."""
    wide = accumulator(q.dtype)
    y = q.new_zeros(q.shape[0], q.shape[1], v.shape[2])
    log_sums = torch.zeros(q.shape[:2], dtype=wide, device=q.device)
    for queries, keys in _chunks(q, k, q_ends, k_ends):
        logits = torch.einsum("qhe,khe->hqk", q[queries].to(wide), k[keys].to(wide)) * scale
        log_sum = logits.logsumexp(2)
        shares = (logits - log_sum[..., None]).exp()
        y[queries] = torch.einsum("hqk,khf->qhf", shares, v[keys].to(wide)).to(q.dtype)
        log_sums[queries] = log_sum.t()
    return y, log_sums


def ragged_attention_grad(
    q: Tensor,  # [N, H, E]
    k: Tensor,  # [M, H, E]
    v: Tensor,  # [M, H, F]
    q_ends: Tensor,  # [B + 1] int64
    k_ends: Tensor,  # [B + 1] int64
    scale: float,
    y: Tensor,  # [N, H, F]
    log_sums: Tensor,  # [N, H]
    grad: Tensor,  # [N, H, F]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v, the softmax being made again some queries at a time."""
    wide = accumulator(q.dtype)
    to_q, to_k, to_v = (torch.zeros(t.shape, dtype=wide, device=t.device) for t in (q, k, v))
    along = (grad.to(wide) * y.to(wide)).sum(2)
    for queries, keys in _chunks(q, k, q_ends, k_ends):
        some_q, some_g = q[queries].to(wide), grad[queries].to(wide)
        all_k, all_v = k[keys].to(wide), v[keys].to(wide)
        logits = torch.einsum("qhe,khe->hqk", some_q, all_k) * scale
        shares = (logits - log_sums[queries].t()[..., None]).exp()
        to_shares = torch.einsum("qhf,khf->hqk", some_g, all_v)
        to_logits = shares * (to_shares - along[queries].t()[..., None]) * scale
        to_q[queries] = torch.einsum("hqk,khe->qhe", to_logits, all_k)
        to_k[keys] += torch.einsum("hqk,qhe->khe", to_logits, some_q)
        to_v[keys] += torch.einsum("hqk,qhf->khf", shares, some_g)
    return to_q.to(q.dtype), to_k.to(k.dtype), to_v.to(v.dtype)


def _chunks(q: Tensor, k: Tensor, q_ends: Tensor, k_ends: Tensor) -> Iterator[tuple[slice, slice]]:
    for queries, keys in item_slices(q_ends, k_ends, q.shape[0], k.shape[0]):
        step = max(1, CELLS // (q.shape[1] * (keys.stop - keys.start)))
        for start in range(queries.start, queries.stop, step):
            yield slice(start, min(start + step, queries.stop)), keys


def item_slices(
    q_ends: Tensor,  # [B + 1] int64
    k_ends: Tensor,  # [B + 1] int64
    num_queries: int,
    num_keys: int,
) -> list[tuple[slice, slice]]:
    """Return queries and keys of every item that has both.

    Raises:
        IndexError: ends do not rise from 0 to the number of rows.
    """
    ranges = []
    for name, given, rows in (("q_ends", q_ends, num_queries), ("k_ends", k_ends, num_keys)):
        ends = given.tolist()
        if ends[0] != 0 or ends[-1] != rows or ends != sorted(ends):
            raise IndexError(complain(name, f"numbers rising from 0 to {rows}, the rows", ends))
        ranges.append([slice(*pair) for pair in pairwise(ends)])
    pairs = zip(*ranges, strict=True)
    return [(a, b) for a, b in pairs if a.stop > a.start and b.stop > b.start]
