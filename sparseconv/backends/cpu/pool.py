"""Maximum over pairs, with the row that gave it."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv.backends.cpu._arguments import DTYPES, pairs, rows


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
