"""The pairs of a rulebook by output row."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import dense, pairs, taps_of
from sparseconv.backends.reference.row_list import HEAD, SPARE


def pairs_by_row(
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
) -> Tensor:  # [4 + M + 1 + P + 64] int64
    """Return the pairs sorted by output row, then tap, then place; `csrc/core/row_list.hpp`.

    Raises:
        ValueError: segments do not cover the pairs, or an output row is out of range.
    """
    in_rows, out_rows = pairs(in_rows, out_rows)
    segments, taps = taps_of(segments)
    if num_out < 0:
        raise ValueError(complain("num_out", "an int >= 0", f"{num_out}"))
    count = in_rows.shape[0]
    listed = segments.new_empty(HEAD + num_out + 1 + count + SPARE)
    _native.pairs_by_row(
        in_rows.data_ptr(),
        out_rows.data_ptr(),
        segments.data_ptr(),
        taps,
        count,
        num_out,
        listed.data_ptr(),
        torch.get_num_threads(),
    )
    return listed


def listed(
    by_row: Tensor | None,  # [4 + M + 1 + P + 64] int64
    count: int,
    num_out: int,
) -> Tensor | None:
    """Return a list of that many pairs and output rows, or refuse; None where there is none."""
    if by_row is None:
        return None
    by_row = dense("by_row", by_row, torch.int64, 1)
    size = HEAD + num_out + 1 + count + SPARE
    if by_row.shape[0] != size:
        raise ValueError(
            complain(
                "by_row",
                f"{size} numbers, of {count} pairs and {num_out} output rows",
                f"{by_row.shape[0]}",
                "use pairs_by_row of the same rulebook",
            )
        )
    return by_row
