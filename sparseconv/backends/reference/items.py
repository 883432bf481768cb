"""Rows and pairs by batch item, in plain torch."""

import torch
from torch import Tensor

from sparseconv.backends.reference.pairs import pair_bounds, rows_within


def item_order(
    items: Tensor,  # [N] int32
    batch_size: int,
) -> tuple[Tensor, Tensor]:  # [N] int64, [B + 1] int64
    """Return the rows sorted by item, rows of one item in their order, and where items end."""
    wide = rows_within("items", items, batch_size)
    ends = _ends(wide, batch_size)
    if bool((wide[1:] >= wide[:-1]).all()):
        return torch.arange(wide.shape[0], device=items.device), ends
    return torch.argsort(wide, stable=True), ends


def split_by_item(
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    items: Tensor,  # [M] int32
    batch_size: int,
    symmetric: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # [P] int32, [P] int32, [K' + 1] int64
    """Split the pairs of each tap by the batch item of their output row."""
    bounds = pair_bounds(segments, in_rows.shape[0])
    taps, device = len(bounds) - 1, in_rows.device
    of_pair = items[rows_within("out_rows", out_rows, items.shape[0])].long()
    counts = segments.diff()
    start_of_tap = torch.arange(taps, device=device) * batch_size
    blocks = of_pair + torch.repeat_interleave(start_of_tap, counts)
    in_order = bool((blocks[1:] >= blocks[:-1]).all())
    ends = _ends(blocks, taps * batch_size)
    # every block of pairs goes to the place of its tap and item
    places = block_places(taps, batch_size, symmetric).to(device)
    size = (taps + symmetric) * batch_size
    lengths = ends.new_zeros(size).index_put((places,), ends.diff())
    begins = ends.new_zeros(size).index_put((places,), ends[:-1])
    split = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    pairs = torch.arange(in_rows.shape[0], device=device)
    pairs = pairs + torch.repeat_interleave(begins - split[:-1], lengths)
    if not in_order:
        pairs = torch.argsort(blocks, stable=True)[pairs]
    return in_rows[pairs], out_rows[pairs], split


def block_places(taps: int, batch_size: int, symmetric: bool) -> Tensor:  # [K * B] int64
    """Return the tap of the split rulebook for tap t and item b, at t * B + b."""
    tap = torch.arange(taps)[:, None]
    item = torch.arange(batch_size)
    if not symmetric:
        return (item * taps + tap).flatten()
    upper = (taps + 1) * batch_size - 1 - ((taps - 1 - tap) * batch_size + item)
    return torch.where(tap > taps // 2, upper, tap * batch_size + item).flatten()


def _ends(numbers: Tensor, count: int) -> Tensor:
    return torch.nn.functional.pad(torch.bincount(numbers, minlength=count).cumsum(0), (1, 0))
