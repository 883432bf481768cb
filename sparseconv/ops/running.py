"""What: running sums over the rows of each batch item."""

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import running as reference
from sparseconv.ops._checks import check_features, describe
from sparseconv.ops._registry import define


def _fake_running_sums(values, ends, reverse):
    return values.new_empty(values.shape)


def _setup_running_sums(ctx, inputs, output):
    _, ends, ctx.reverse = inputs
    ctx.save_for_backward(ends)


def _running_sums_backward(ctx, grad):
    (ends,) = ctx.saved_tensors
    return _running_sums(grad.contiguous(), ends, not ctx.reverse), None, None


# torch's cumulative sum is as fast as memory: there is no kernel of our own
_running_sums = define(
    "running_sums(Tensor values, Tensor ends, bool reverse) -> Tensor",
    reference=reference.running_sums,
    compiled=reference.running_sums,
    fake=_fake_running_sums,
    setup=_setup_running_sums,
    backward=_running_sums_backward,
)


def running_sums(
    values: Tensor,  # [N, C]
    ends: Tensor,  # [B + 1] int64
    *,
    reverse: bool = False,
) -> Tensor:  # [N, C]
    """Sum the rows of each batch item up to every row, or from every row on.

    `y[n] = sum over m <= n of values[m]`, or `m >= n`, m being a row of the item of n. No item's
    numbers enter another's sums. Summed in float64, rounded once.

    Args:
        values: float [N, C], rows of one item following one another.
        ends: int64 [B + 1], rows `ends[b]:ends[b + 1]` being those of item b.
        reverse: whether to sum from each row on.

    Returns:
        float [N, C]. Differentiable twice.

    Raises:
        TypeError, ValueError: dtypes or shapes do not fit.
        IndexError: ends do not cover the rows.
    """
    check_features("values", values)
    if ends.dtype != torch.int64 or ends.dim() != 1 or not ends.shape[0]:
        raise TypeError(complain("ends", "an int64 tensor [B + 1]", describe(ends)))
    return _running_sums(values, ends, reverse)
