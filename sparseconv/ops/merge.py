"""Where: the rulebooks of several scans as that of their batch. Integers, no gradient."""

from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import merge as reference
from sparseconv.ops._checks import describe
from sparseconv.ops._registry import compiled, define


def _fake_join_rows(segments, rows, starts):
    return rows[0].new_empty(sum(each.shape[0] for each in rows))


_join_rows = define(
    "join_rows(Tensor segments, Tensor[] rows, int[] starts) -> Tensor",
    reference=reference.join_rows,
    compiled=compiled("merge", "join_rows"),
    fake=_fake_join_rows,
)


def join_rows(
    segments: Tensor,  # [B, K + 1] int64
    rows: list[Tensor],  # B of [P_b] int32
    starts: list[int],  # B
) -> Tensor:  # [P] int32
    """Join one side of the rulebooks of B scans whose rows follow one another.

    Args:
        segments: int64 [B, K + 1], those of each rulebook.
        rows: B tensors int32 [P_b], the input or the output rows of each.
        starts: what is added to the rows of each: the number of rows before its own.

    Returns:
        int32 [P], P the sum of P_b: tap by tap, the rows of the scans in turn.

    Raises:
        ValueError: B differs, or is 0; or the segments of a scan do not cover its rows.
    """
    if segments.dim() != 2 or not (0 < segments.shape[0] == len(rows) == len(starts)):
        raise ValueError(
            complain(
                "segments",
                f"[B, K + 1] of B = {len(rows)} = {len(starts)} scans",
                describe(segments),
            )
        )
    return _join_rows(segments, rows, starts)
