"""The rulebook: merged from sorted sites, or looked up in the index."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv.backends.cpu._arguments import sites, steps
from sparseconv.backends.cpu.coords import checked_table


def rulebook(
    in_coords: Tensor,  # [N, 4] int32
    table: Tensor,  # opaque
    out_coords: Tensor,  # [M, 4] int32
    offsets: list[int],  # 3K
    stride: list[int],  # 3
    same_sites: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return in_rows [P] and out_rows [P], sorted by (tap, out row), and segments [K + 1]."""
    in_coords, out_coords = sites("in_coords", in_coords), sites("out_coords", out_coords)
    table = checked_table(in_coords, table)
    return _native.rulebook(
        in_coords.data_ptr(),
        in_coords.shape[0],
        table.data_ptr(),
        table.shape[0],
        out_coords.data_ptr(),
        out_coords.shape[0],
        steps("offsets", offsets, len(offsets) // 3 * 3),
        steps("stride", stride, 3, least=1),
        same_sites and in_coords.shape == out_coords.shape,
        torch.get_num_threads(),
    )
