"""The rulebook: derived from a pyramid, merged from sorted sites, or looked up in the index."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv.backends.cpu._arguments import dense, sites, steps
from sparseconv.backends.cpu.coords import checked_table, output_coords
from sparseconv.backends.reference.rulebook import CORNERS, CUBE


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
    made = _native.rulebook(
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
    in_rows, out_rows, segments = map(torch.from_numpy, made)
    return in_rows, out_rows, segments


def cube_rulebook(
    coords: Tensor,  # [N, 4] int32
    pyramid: Tensor,  # opaque
    depth: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rulebook of 3 x 3 x 3 taps: from the pyramid where it holds the level."""
    pyramid = dense("pyramid", pyramid, torch.int64, 1)
    rows, words, threads = len(coords), len(pyramid), torch.get_num_threads()
    made = _native.cube_rulebook(pyramid.data_ptr(), words, depth, rows, threads)
    if made is None:
        return rulebook(coords, pyramid[:0], coords, CUBE, [1, 1, 1], True)
    in_rows, out_rows, segments = map(torch.from_numpy, made)
    return in_rows, out_rows, segments


def halve(
    coords: Tensor,  # [N, 4] int32
    pyramid: Tensor,  # opaque
    depth: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return halved sites and their rulebook: from the pyramid where it holds the level."""
    coords, pyramid = sites("coords", coords), dense("pyramid", pyramid, torch.int64, 1)
    rows, words, threads = len(coords), len(pyramid), torch.get_num_threads()
    made = _native.halve(pyramid.data_ptr(), words, depth, coords.data_ptr(), rows, threads)
    if made is None:
        halved = output_coords(coords, CORNERS, [2, 2, 2], [], [], False)
        return halved, *rulebook(coords, pyramid[:0], halved, CORNERS, [2, 2, 2], False)
    halved, in_rows, out_rows, segments = map(torch.from_numpy, made)
    return halved, in_rows, out_rows, segments
