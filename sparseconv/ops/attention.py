"""What: softmax attention among the rows of each batch item."""

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import attention as reference
from sparseconv.backends.reference.conv import accumulator
from sparseconv.ops._checks import FLOATS, check_same_dtype, describe
from sparseconv.ops._registry import compiled, define


def _fake_attention(q, k, v, q_ends, k_ends, scale):
    log_sums = q.new_empty(q.shape[0], q.shape[1], dtype=accumulator(q.dtype))
    return q.new_empty(q.shape[0], q.shape[1], v.shape[2]), log_sums


def _fake_attention_grad(q, k, v, q_ends, k_ends, scale, y, log_sums, grad):
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _setup_attention(ctx, inputs, output):
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _attention_backward(ctx, grad, _):
    *tensors, y, log_sums = ctx.saved_tensors
    made = _ragged_attention_grad(*tensors, ctx.scale, y, log_sums, grad)
    return *made, None, None, None


def _setup_once(ctx, inputs, output):
    pass


def _differentiated_once(ctx, *grads):
    raise RuntimeError(
        complain(
            "create_graph",
            "one derivative of an attention layer",
            "a second one, which is not offered",
            "leave create_graph out, or detach what was differentiated",
        )
    )


_ragged_attention = define(
    "ragged_attention(Tensor q, Tensor k, Tensor v, Tensor q_ends, Tensor k_ends, float scale) "
    "-> (Tensor, Tensor)",
    reference=reference.ragged_attention,
    compiled=compiled("attention", "ragged_attention"),
    fake=_fake_attention,
    setup=_setup_attention,
    backward=_attention_backward,
)
_ragged_attention_grad = define(
    "ragged_attention_grad(Tensor q, Tensor k, Tensor v, Tensor q_ends, Tensor k_ends, "
    "float scale, Tensor y, Tensor log_sums, Tensor grad) -> (Tensor, Tensor, Tensor)",
    reference=reference.ragged_attention_grad,
    compiled=compiled("attention", "ragged_attention_grad"),
    fake=_fake_attention_grad,
    setup=_setup_once,
    backward=_differentiated_once,
)


def ragged_attention(
    q: Tensor,  # [N, H, E]
    k: Tensor,  # [M, H, E]
    v: Tensor,  # [M, H, F]
    q_ends: Tensor,  # [B + 1] int64
    k_ends: Tensor,  # [B + 1] int64
    scale: float,
) -> Tensor:  # [N, H, F]
    """Let every query attend to the keys of its batch item.

    `y[i, h] = sum over j of softmax over j of (scale <q[i, h], k[j, h]>) v[j, h]`, j running over
    the keys of the item of i. No matrix of queries and keys is held: memory is O(N + M), time
    O(N M) an item. Under autocast the inputs are cast to its dtype. Differentiable once.

    Args:
        q: float [N, H, E], rows of one item following one another.
        k: same dtype, [M, H, E].
        v: same dtype, [M, H, F].
        q_ends: int64 [B + 1], rows `q_ends[b]:q_ends[b + 1]` of `q` being those of item b.
        k_ends: int64 [B + 1], the same of `k` and `v`.
        scale: what logits are multiplied with, such as `E ** -0.5`.

    Returns:
        float [N, H, F]; 0 for the queries of an item without keys.

    Raises:
        TypeError: dtypes or devices differ.
        ValueError: heads, channels or items do not fit each other.
        IndexError: ends do not cover the rows.

    Source:
        Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, section 3.2; without the
        matrix: Dao et al., "FlashAttention", arXiv:2205.14135.
    """
    for name, value in (("q", q), ("k", k), ("v", v)):
        if not isinstance(value, Tensor) or value.dtype not in FLOATS:
            expected = "float32, float64, bfloat16 or float16 [N, H, E]"
            raise TypeError(complain(name, expected, describe(value)))
        if value.dim() != 3:
            raise ValueError(complain(name, "three axes: rows, heads, channels", describe(value)))
    device = q.device.type
    if torch.is_autocast_enabled(device) and q.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    check_same_dtype("k", k, q)
    check_same_dtype("v", v, q)
    if k.shape[1:] != q.shape[1:]:
        expected = f"{q.shape[1]} heads of {q.shape[2]} channels as q"
        raise ValueError(complain("k", expected, describe(k)))
    if v.shape[1] != q.shape[1]:
        raise ValueError(complain("v", f"{q.shape[1]} heads as q", describe(v)))
    if torch.compiler.is_compiling():
        torch._check(v.shape[0] == k.shape[0])
    elif v.shape[0] != k.shape[0]:
        raise ValueError(complain("v", f"{k.shape[0]} rows as k", describe(v)))
    for name, ends in (("q_ends", q_ends), ("k_ends", k_ends)):
        if ends.dtype != torch.int64 or ends.dim() != 1:
            raise TypeError(complain(name, "an int64 tensor [B + 1]", describe(ends)))
        if ends.shape != q_ends.shape or not ends.shape[0]:
            raise ValueError(complain(name, "B + 1 entries", describe(ends)))
    return _ragged_attention(q, k, v, q_ends, k_ends, scale)[0]
