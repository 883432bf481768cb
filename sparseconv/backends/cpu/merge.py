"""The rulebooks of several scans as that of their batch."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import dense, steps


def join_rows(
    segments: Tensor,  # [B, K + 1] int64
    rows: list[Tensor],  # B of [P_b] int32
    starts: list[int],  # B
) -> Tensor:  # [P] int32
    """Return, tap by tap, the rows of all parts in turn, each with its start added.

    Raises:
        ValueError: segments do not cover the rows of a part.
    """
    segments = dense("segments", segments, torch.int64, 2)
    rows = [dense("rows", each, torch.int32, 1) for each in rows]
    if segments.shape[0] != len(rows) or segments.shape[1] < 1:
        raise ValueError(complain("segments", f"[{len(rows)}, K + 1]", f"{list(segments.shape)}"))
    joined = torch.empty(sum(len(each) for each in rows), dtype=torch.int32)
    _native.join_rows(
        [each.data_ptr() for each in rows],
        [len(each) for each in rows],
        segments.data_ptr(),
        segments.shape[1] - 1,
        steps("starts", starts, len(rows)),
        joined.data_ptr(),
        torch.get_num_threads(),
    )
    return joined
