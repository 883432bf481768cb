"""Maximum over pairs in plain torch, and its gradient."""

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference.conv import accumulator
from sparseconv.backends.reference.pairs import rows_within


def pool_max(
    features: Tensor,  # [N, C]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    num_out: int,
) -> tuple[Tensor, Tensor]:  # [M, C], [M, C] int32
    """Return the maximum over the inputs of each output row, and the row that gave it.

    It starts at minus infinity. Ties go to the lowest input row; NaN wins over every number, as in
    torch. Rows without input give 0 and winner -1.
    """
    n, channels = features.shape
    device = features.device
    shape = (num_out, channels)
    inputs = rows_within("in_rows", in_rows, n)
    outputs = rows_within("out_rows", out_rows, num_out)
    target = outputs[:, None].expand(-1, channels)
    values = features[inputs]
    # two passes: the maximum, then the lowest row that attains it
    best = torch.full(shape, -torch.inf, dtype=features.dtype, device=device)
    best = best.scatter_reduce(0, target, values, "amax")
    attains = (values == best[outputs]) | values.isnan()
    rows = torch.where(attains, inputs[:, None], n)
    winner = torch.full(shape, n, dtype=torch.int64, device=device)
    winner = winner.scatter_reduce(0, target, rows, "amin")
    found = winner < n
    # read the winner back: scatter_reduce promises no NaN rule
    padded = torch.cat([features, torch.zeros(1, channels, dtype=features.dtype, device=device)])
    return padded.gather(0, winner), torch.where(found, winner, -1).to(torch.int32)


def pool_max_grad(
    grad: Tensor,  # [M, C]
    winner: Tensor,  # [M, C] int32
    num_in: int,
) -> Tensor:  # [N, C]
    """Return `dx[winner[o, c], c] = sum of grad[o, c]`; a winner of -1 takes nothing."""
    if winner.shape != grad.shape:
        raise ValueError(complain("winner", f"{list(grad.shape)}", f"{list(winner.shape)}"))
    # row num_in collects what has no winner, and is dropped
    rows = rows_within("winner", winner + 1, num_in + 1) - 1
    rows = torch.where(rows < 0, num_in, rows)
    wide = accumulator(grad.dtype)
    spread = torch.zeros(num_in + 1, grad.shape[1], dtype=wide, device=grad.device)
    return spread.scatter_add(0, rows, grad.to(wide))[:num_in].to(grad.dtype)
