"""Where: rows in the order of their batch items, and rulebooks split by item. No gradient."""

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import items as reference
from sparseconv.ops._checks import check_pairs, describe
from sparseconv.ops._registry import define


def _fake_item_order(items, batch_size):
    return (
        items.new_empty(items.shape[0], dtype=torch.int64),
        items.new_empty(batch_size + 1, dtype=torch.int64),
    )


def _fake_split_by_item(in_rows, out_rows, segments, items, batch_size, symmetric):
    taps = segments.shape[0] - 1
    return (
        in_rows.new_empty(in_rows.shape[0]),
        in_rows.new_empty(in_rows.shape[0]),
        segments.new_empty((taps + symmetric) * batch_size + 1),
    )


# both are a few passes over integers, made once a batch: plain torch does
_item_order = define(
    "item_order(Tensor items, SymInt batch_size) -> (Tensor, Tensor)",
    reference=reference.item_order,
    compiled=reference.item_order,
    fake=_fake_item_order,
)
_split_by_item = define(
    "split_by_item(Tensor in_rows, Tensor out_rows, Tensor segments, Tensor items, "
    "SymInt batch_size, bool symmetric) -> (Tensor, Tensor, Tensor)",
    reference=reference.split_by_item,
    compiled=reference.split_by_item,
    fake=_fake_split_by_item,
)


def _check_items(items: Tensor, batch_size: int) -> None:
    if items.dtype != torch.int32 or items.dim() != 1:
        raise TypeError(complain("items", "an int32 tensor [N]", describe(items)))
    if batch_size < 1:
        raise ValueError(complain("batch_size", "an int >= 1", f"{batch_size}"))


def item_order(
    items: Tensor,  # [N] int32
    batch_size: int,
) -> tuple[Tensor, Tensor]:  # [N] int64, [B + 1] int64
    """Sort rows by batch item, rows of one item keeping their order.

    Args:
        items: int32 [N], the batch item of each row.
        batch_size: B.

    Returns:
        The rows in that order, int64 [N], and int64 [B + 1]: those of item b stand at
        `ends[b]:ends[b + 1]`.

    Raises:
        TypeError, ValueError: not int32 [N], or no batch.
        IndexError: an item is not below B.
    """
    _check_items(items, batch_size)
    return _item_order(items, batch_size)


def split_by_item(
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    items: Tensor,  # [M] int32
    batch_size: int,
    *,
    symmetric: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # [P] int32, [P] int32, [K' + 1] int64
    """Split the pairs of each tap by the batch item of their output row.

    Tap t of item b becomes tap `b * K + t` of K' = B K. A symmetric rulebook can still be read as
    one, in another order of K' = B (K + 1) taps: `t * B + b` below the centre and at it, then B
    taps without pairs, whose weights are those of the centres they mirror, then the mirror image of
    what stands below.

    Args:
        in_rows: int32 [P].
        out_rows: int32 [P].
        segments: int64 [K + 1].
        items: int32 [M], the batch item of each output row.
        batch_size: B.
        symmetric: whether the rulebook is symmetric, and the result shall be; K is then odd.

    Returns:
        `in_rows`, `out_rows` and `segments` of the split rulebook. Pairs of one tap and item keep
        their order.

    Raises:
        TypeError, ValueError: dtypes or lengths do not fit, or K is even where symmetric.
        IndexError: a row or item does not exist.
    """
    _check_items(items, batch_size)
    check_pairs(in_rows, out_rows)
    if symmetric and segments.shape[0] % 2:
        raise ValueError(
            complain("symmetric", "an odd number of taps", f"{segments.shape[0] - 1} taps")
        )
    return _split_by_item(in_rows, out_rows, segments, items, batch_size, symmetric)
