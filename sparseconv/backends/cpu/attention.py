"""Softmax attention among the rows of each batch item, by the fused kernel torch has for CPUs."""

import torch
from torch import Tensor

from sparseconv.backends.reference.attention import item_slices
from sparseconv.backends.reference.conv import accumulator

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

# torch's backward pass runs one task a head: keys are dealt out to as many tasks as this, a number
# that no thread count enters, so that sums have one order
TASKS = 2
FEWEST = 256


def ragged_attention(
    q: Tensor,  # [N, H, E]
    k: Tensor,  # [M, H, E]
    v: Tensor,  # [M, H, F]
    q_ends: Tensor,  # [B + 1] int64
    k_ends: Tensor,  # [B + 1] int64
    scale: float,
) -> tuple[Tensor, Tensor]:  # [N, H, F], [N, H]
    """Return the attended values and the logarithm of each query's sum of exponentials."""
    y = q.new_zeros(q.shape[0], q.shape[1], v.shape[2])
    log_sums = q.new_zeros(q.shape[:2], dtype=accumulator(q.dtype))
    width = max(q.shape[2], v.shape[2])
    for queries, keys in item_slices(q_ends, k_ends, q.shape[0], k.shape[0]):
        given = (_heads_first(t, width)[None] for t in (q[queries], k[keys], v[keys]))
        made, log_sum = _forward(*given, 0.0, False, scale=scale)
        y[queries] = made[0].transpose(0, 1)[..., : v.shape[2]]
        log_sums[queries] = log_sum[0].transpose(0, 1)
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
    """Return the gradients of q, k and v, the softmax being made again."""
    to_q = to_k = to_v = None
    heads, width = q.shape[1], max(q.shape[2], v.shape[2])
    for queries, keys in item_slices(q_ends, k_ends, q.shape[0], k.shape[0]):
        some_q, some_y, some_grad = (_heads_first(t[queries], width)[None] for t in (q, y, grad))
        log_sum = log_sums[queries].transpose(0, 1)[None]
        count = keys.stop - keys.start
        tasks = max(1, min(TASKS // heads, count // FEWEST))
        middle = keys.stop - count % tasks
        for part, shares in ((slice(keys.start, middle), tasks), (slice(middle, keys.stop), 1)):
            if part.start == part.stop:
                continue
            dealt = [
                _wide(t[part], width).unflatten(0, (shares, -1)).transpose(1, 2) for t in (k, v)
            ]
            given = [t.expand(shares, -1, -1, -1) for t in (some_grad, some_q)]
            made = _backward(
                *given,
                *dealt,
                some_y.expand(shares, -1, -1, -1),
                log_sum.expand(shares, -1, -1),
                0.0,
                False,
                scale=scale,
            )
            by_q = made[0].sum(0) if shares > 1 else made[0][0]
            to_q = _added(to_q, q, queries, by_q.transpose(0, 1))
            to_k = _added(to_k, k, part, made[1].transpose(1, 2).flatten(0, 1))
            to_v = _added(to_v, v, part, made[2].transpose(1, 2).flatten(0, 1))
    given = (to_q, q), (to_k, k), (to_v, v)
    return tuple(t.new_zeros(t.shape) if made is None else made for made, t in given)


def _added(
    total: Tensor | None,
    like: Tensor,  # [N, H, E]
    rows: slice,
    part: Tensor,  # [., H, width]
) -> Tensor:
    """Add to some rows of a total; the first part is the total itself where it is all of it."""
    part = part[..., : like.shape[2]]
    if total is None and part.shape == like.shape:
        return part.contiguous()
    total = like.new_zeros(like.shape) if total is None else total
    total[rows] += part
    return total


def _wide(rows: Tensor, width: int) -> Tensor:  # [N, H, E] to [N, H, width]
    """Fill up with zeros, which add none: torch's kernel wants all three of one width."""
    if rows.shape[2] == width:
        return rows
    return torch.nn.functional.pad(rows, (0, width - rows.shape[2]))


def _heads_first(rows: Tensor, width: int) -> Tensor:  # [N, H, E] to [H, N, width]
    return _wide(rows, width).transpose(0, 1)
