"""Row numbers of a rulebook, checked before they index anything."""

import torch
from torch import Tensor

from sparseconv._errors import complain


def rows_within(name: str, rows: Tensor, limit: int) -> Tensor:
    """Return `rows` as int64.

    Raises:
        IndexError: a row lies outside `0 <= row < limit`.
    """
    if rows.numel():
        low, high = (int(v) for v in torch.aminmax(rows))
        if low < 0 or high >= limit:
            raise IndexError(
                complain(
                    name,
                    f"rows in 0..{limit - 1}",
                    f"{low}..{high}",
                    "use a rulebook built from the sites of these tensors",
                )
            )
    return rows.long()


def pair_bounds(segments: Tensor, pairs: int, *, partly: bool = False) -> list[int]:
    """Return where the pairs of each tap begin and end.

    Args:
        segments: int64 [K + 1].
        pairs: number of pairs P.
        partly: whether the last taps may be left out, and their pairs with them.

    Raises:
        IndexError: `segments` does not rise from 0 to the number of pairs.
    """
    bounds = segments.tolist()
    last = min(bounds[-1], pairs) if partly else pairs
    if bounds[0] != 0 or bounds[-1] != last or bounds != sorted(bounds):
        raise IndexError(
            complain("segments", f"numbers rising from 0 to {pairs}, the pairs", f"{bounds}")
        )
    return bounds
