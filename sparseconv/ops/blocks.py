"""Where: an index of sites for many look-ups near one another. Integers, no gradient."""

import torch
from torch import Tensor

from sparseconv.backends.reference import blocks as reference
from sparseconv.ops._checks import check_coords
from sparseconv.ops._registry import compiled, define


def _fake_block_index(coords):
    return coords.new_empty(torch.library.get_ctx().new_dynamic_size(min=0))


_block_index = define(
    "block_index(Tensor coords) -> Tensor",
    reference=reference.block_index,
    compiled=compiled("blocks", "block_index"),
    fake=_fake_block_index,
)


def block_index(
    coords: Tensor,  # [N, 4] int32
) -> Tensor:
    """Build the block index, which what samples between sites reads them from.

    Sites are held by blocks of 4 x 4 x 4 cells, so that the eight corners around a position are
    mostly found in one. Any int32 coordinate is accepted, and no collision can give a wrong row.

    Args:
        coords: int32 [N, 4]; of equal sites the lowest row is found.

    Returns:
        The index, int32, opaque, the same on every device and backend: 4 bytes a site and at most
        60 a block.

    Raises:
        TypeError, ValueError: `coords` is not int32 [N, 4].
    """
    check_coords("coords", coords)
    return _block_index(coords)
