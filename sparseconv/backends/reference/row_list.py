"""The pairs of a rulebook by output row, in plain torch."""

import torch
from torch import Tensor

from sparseconv.backends.reference.pairs import pair_bounds, rows_within

# numbers before the starts, and zeros behind the pairs
HEAD, SPARE = 4, 64


def pairs_by_row(
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
) -> Tensor:  # [4 + M + 1 + P + 64] int64
    """Return the pairs sorted by output row, then tap, then place; `csrc/core/row_list.hpp`."""
    pairs, taps = in_rows.shape[0], segments.shape[0] - 1
    count = pair_bounds(segments, pairs, partly=True)[-1]
    inputs, outputs = in_rows[:count].long(), rows_within("out_rows", out_rows[:count], num_out)
    order = torch.argsort(outputs, stable=True)
    tap = torch.repeat_interleave(torch.arange(taps, device=segments.device), segments.diff())
    starts = torch.bincount(outputs, minlength=num_out).cumsum(0)
    rows = int(inputs.max()) + 1 if count else 0
    head = torch.tensor([num_out, count, taps, rows, 0], device=segments.device)
    spare = segments.new_zeros(pairs - count + SPARE)
    return torch.cat([head, starts, (tap << 32 | inputs)[order], spare])
