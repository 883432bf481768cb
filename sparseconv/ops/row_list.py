"""Where: the pairs of a rulebook by output row. Integers, no gradient."""

from torch import Tensor

from sparseconv.backends.reference import row_list as reference
from sparseconv.ops._checks import check_pairs
from sparseconv.ops._registry import compiled, define


def list_size(num_out: int, pairs: int) -> int:
    """Return how many numbers the list of P pairs and M output rows takes."""
    return num_out + pairs + reference.HEAD + 1 + reference.SPARE


def _fake_pairs_by_row(in_rows, out_rows, segments, num_out):
    return segments.new_empty(list_size(num_out, in_rows.shape[0]))


_pairs_by_row = define(
    "pairs_by_row(Tensor in_rows, Tensor out_rows, Tensor segments, SymInt num_out) -> Tensor",
    reference=reference.pairs_by_row,
    compiled=compiled("row_list", "pairs_by_row"),
    fake=_fake_pairs_by_row,
)


def pairs_by_row(
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
) -> Tensor:  # [M + P + 69] int64
    """List the pairs of a rulebook by output row, then tap, then place.

    A depthwise layer that is given the list keeps the sums of a row in registers. It is opaque, 8
    bytes a pair and an output row, and belongs to these pairs alone.

    Args:
        in_rows: int32 [P].
        out_rows: int32 [P].
        segments: int64 [K + 1], as for `conv`; pairs behind the last tap's are left out.
        num_out: output rows M.

    Returns:
        int64 [M + P + 69].

    Raises:
        TypeError: pairs are not int32.
        ValueError: segments do not cover the pairs, or an output row is out of range.
    """
    check_pairs(in_rows, out_rows)
    return _pairs_by_row(in_rows, out_rows, segments, num_out)
