"""Softmax attention among the rows of each batch item, by the fused kernel torch has for CPUs."""

import torch
from torch import Tensor

from sparseconv.backends.reference.attention import item_slices
from sparseconv.backends.reference.conv import accumulator

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

# torch's backward pass runs one task a head: queries are dealt out to as many tasks as this, a
# number that no thread count enters, so that sums have one order
TASKS = 4
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
    to_q, to_k, to_v = (t.new_zeros(t.shape) for t in (q, k, v))
    heads, width = q.shape[1], max(q.shape[2], v.shape[2])
    for queries, keys in item_slices(q_ends, k_ends, q.shape[0], k.shape[0]):
        count = queries.stop - queries.start
        tasks = max(1, min(TASKS // heads, count // FEWEST))

        def dealt(rows: Tensor, width: int, tasks: int = tasks) -> Tensor:
            # rows of zeros that fill the last share get and give gradients of 0
            short = -rows.shape[0] % tasks
            padded = torch.nn.functional.pad(rows, (0, width - rows.shape[2], 0, 0, 0, short))
            return padded.unflatten(0, (tasks, -1)).transpose(1, 2)

        def repeated(rows: Tensor, tasks: int = tasks) -> Tensor:
            return _heads_first(rows, width)[None].expand(tasks, -1, -1, -1)

        made = _backward(
            dealt(grad[queries], width),
            dealt(q[queries], width),
            repeated(k[keys]),
            repeated(v[keys]),
            dealt(y[queries], width),
            dealt(log_sums[queries][..., None], 1)[..., 0],
            0.0,
            False,
            scale=scale,
        )
        mine = made[0].transpose(1, 2).flatten(0, 1)
        to_q[queries] = mine[:count, :, : q.shape[2]]
        to_k[keys] = made[1].sum(0).transpose(0, 1)[..., : k.shape[2]]
        to_v[keys] = made[2].sum(0).transpose(0, 1)[..., : v.shape[2]]
    return to_q, to_k, to_v


def _heads_first(rows: Tensor, width: int) -> Tensor:  # [N, H, E] to [H, N, width]
    """Exchange the first axes; torch's kernel wants all three of one width, and zeros add none."""
    return torch.nn.functional.pad(rows, (0, width - rows.shape[2])).transpose(0, 1)
