"""Which rows belong to which scan of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Items:
    """The rows of one level by batch item.

    Attributes:
        of_row: int32 [N], the batch item of each row.
        order: int64 [N], the rows sorted by item, rows of one item in their order.
        ends: int64 [B + 1]: rows `order[ends[b]:ends[b + 1]]` are those of item b.
    """

    of_row: Tensor  # [N] int32
    order: Tensor  # [N] int64
    ends: Tensor  # [B + 1] int64

    @property
    def counts(self) -> Tensor:  # [B] int64
        """Active sites of each item."""
        return self.ends.diff()
