"""Levels of half the resolution and rulebooks without searching; see csrc/kernels/pyramid.hpp."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv.backends.cpu._arguments import dense, sites
from sparseconv.backends.cpu.coords import output_coords
from sparseconv.backends.cpu.rulebook import rulebook
from sparseconv.backends.reference.pyramid import CORNERS, CUBE


def pyramid(
    coords: Tensor,  # [N, 4] int32
    order: Tensor,  # opaque
    neighbours: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Return the levels above sites and, if asked for, the rulebook between neighbours."""
    coords, order = sites("coords", coords), dense("order", order, torch.int64, 1)
    made, *cube = _native.pyramid(
        coords.data_ptr(),
        coords.shape[0],
        order.data_ptr(),
        order.shape[0],
        neighbours,
        torch.get_num_threads(),
    )
    return made, cube if cube or not neighbours else list(_searched(coords))


def cube_rulebook(
    coords: Tensor,  # [N, 4] int32
    pyramid: Tensor,  # opaque
    depth: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rulebook of 3 x 3 x 3 taps: from the pyramid where it holds the level."""
    pyramid = dense("pyramid", pyramid, torch.int64, 1)
    rows, words, threads = coords.shape[0], pyramid.shape[0], torch.get_num_threads()
    made = _native.cube_rulebook(pyramid.data_ptr(), words, depth, rows, threads)
    return _searched(coords) if made is None else made


def halve(
    coords: Tensor,  # [N, 4] int32
    pyramid: Tensor,  # opaque
    depth: int,
    neighbours: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    """Return halved sites and rulebooks: from the pyramid where it holds the level."""
    coords, pyramid = sites("coords", coords), dense("pyramid", pyramid, torch.int64, 1)
    rows, words, threads = coords.shape[0], pyramid.shape[0], torch.get_num_threads()
    made = _native.halve(
        pyramid.data_ptr(), words, depth, coords.data_ptr(), rows, neighbours, threads
    )
    if made is None:
        halved = output_coords(coords, CORNERS, [2, 2, 2], [], [], False)
        cube = list(_searched(halved)) if neighbours else []
        return halved, *rulebook(coords, pyramid[:0], halved, CORNERS, [2, 2, 2], False), cube
    halved, in_rows, out_rows, segments, *cube = made
    return halved, in_rows, out_rows, segments, cube


def _searched(coords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    none = torch.empty(0, dtype=torch.int64)
    return rulebook(coords, none, coords, CUBE, [1, 1, 1], True)
