"""What: maximum over pairs."""

import torch
from torch import Tensor

from sparseconv.backends.reference import pool as reference
from sparseconv.ops._checks import check_features, check_pairs
from sparseconv.ops._registry import compiled, define


def _fake_pool_max(features, in_rows, out_rows, num_out):
    channels = features.shape[1]
    return (
        features.new_empty(num_out, channels),
        features.new_empty(num_out, channels, dtype=torch.int32),
    )


def _setup_pool_max(ctx, inputs, output):
    features, *_ = inputs
    ctx.save_for_backward(output[1])
    ctx.num_in = features.shape[0]
    ctx.mark_non_differentiable(output[1])


def _pool_max_backward(ctx, grad, _):
    (winner,) = ctx.saved_tensors
    return _pool_max_grad(grad, winner, ctx.num_in), None, None, None


def _setup_pool_max_grad(ctx, inputs, output):
    ctx.save_for_backward(inputs[1])


def _pool_max_grad_backward(ctx, grad):
    (winner,) = ctx.saved_tensors
    # a winner of -1 took nothing: it reads the row of zeros behind the last
    padded = torch.cat([grad, grad.new_zeros(1, grad.shape[1])])
    return padded.gather(0, torch.where(winner < 0, grad.shape[0], winner.long())), None, None


_pool_max = define(
    "pool_max(Tensor features, Tensor in_rows, Tensor out_rows, SymInt num_out) "
    "-> (Tensor, Tensor)",
    reference=reference.pool_max,
    compiled=compiled("pool", "pool_max"),
    fake=_fake_pool_max,
    setup=_setup_pool_max,
    backward=_pool_max_backward,
)

_pool_max_grad = define(
    "pool_max_grad(Tensor grad, Tensor winner, SymInt num_in) -> Tensor",
    reference=reference.pool_max_grad,
    compiled=compiled("pool", "pool_max_grad"),
    fake=lambda grad, winner, num_in: grad.new_empty(num_in, grad.shape[1]),
    setup=_setup_pool_max_grad,
    backward=_pool_max_grad_backward,
)


def pool_max(
    features: Tensor,  # [N, C]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    num_out: int,
) -> tuple[Tensor, Tensor]:  # [M, C], [M, C] int32
    """Take the maximum over the inputs of each output row.

    `y[o] = max over pairs (i, o) of x[i]`, starting at minus infinity. Ties go to the lowest
    input row, which alone receives the gradient; NaN wins over every number. Rows without input
    give 0 and winner -1.

    Args:
        features: float [N, C].
        in_rows: int32 [P].
        out_rows: int32 [P].
        num_out: output rows M.

    Returns:
        float [M, C] and the winning input row, int32 [M, C].
    """
    check_features("features", features)
    check_pairs(in_rows, out_rows)
    return _pool_max(features, in_rows, out_rows, num_out)
