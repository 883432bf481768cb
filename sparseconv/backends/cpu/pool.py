"""Maximum over pairs, with the row that gave it, and its gradient."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import DTYPES, dense, pairs, rows


def pool_max(
    features: Tensor,  # [N, C]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    num_out: int,
) -> tuple[Tensor, Tensor]:  # [M, C], [M, C] int32
    """Return the maximum over the inputs of each output row, and the lowest row that gave it."""
    features = rows("features", features)
    in_rows, out_rows = pairs(in_rows, out_rows)
    y = features.new_empty(num_out, features.shape[1])
    winner = torch.empty(num_out, features.shape[1], dtype=torch.int32)
    _native.pool_max(
        DTYPES[features.dtype],
        features.shape[0],
        num_out,
        features.shape[1],
        features.data_ptr(),
        in_rows.data_ptr(),
        out_rows.data_ptr(),
        in_rows.shape[0],
        y.data_ptr(),
        winner.data_ptr(),
        torch.get_num_threads(),
    )
    return y, winner


def pool_max_grad(
    grad: Tensor,  # [M, C]
    winner: Tensor,  # [M, C] int32
    num_in: int,
) -> Tensor:  # [N, C]
    """Return `dx[winner[o, c], c] = sum of grad[o, c]`; a winner of -1 takes nothing."""
    grad = rows("grad", grad)
    winner = dense("winner", winner, torch.int32, 2)
    if winner.shape != grad.shape:
        raise ValueError(complain("winner", f"{list(grad.shape)}", f"{list(winner.shape)}"))
    num_out, channels = grad.shape
    spread = grad.new_empty(num_in, channels)
    _native.pool_max_grad(
        DTYPES[grad.dtype],
        num_in,
        num_out,
        channels,
        grad.data_ptr(),
        winner.data_ptr(),
        spread.data_ptr(),
        torch.get_num_threads(),
    )
    return spread
