"""Running sums over the rows of each batch item, in plain torch."""

from itertools import pairwise

import torch
from torch import Tensor

from sparseconv._errors import complain


def running_sums(
    values: Tensor,  # [N, C]
    ends: Tensor,  # [B + 1] int64
    reverse: bool,
) -> Tensor:  # [N, C]
    """Return the sum up to each row of its item, or from it on; summed in float64."""
    bounds = ends.tolist()
    if bounds[0] != 0 or bounds[-1] != values.shape[0] or bounds != sorted(bounds):
        expected = f"numbers rising from 0 to {values.shape[0]}, the rows"
        raise IndexError(complain("ends", expected, bounds))
    y = values.new_zeros(values.shape)
    for start, stop in pairwise(bounds):
        part = values[start:stop]
        if reverse:
            part = part.flip(0).cumsum(0, dtype=torch.float64).flip(0)
        else:
            part = part.cumsum(0, dtype=torch.float64)
        y[start:stop] = part.to(values.dtype)
    return y
