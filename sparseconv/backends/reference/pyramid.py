"""Levels of half the resolution and rulebooks between neighbours in plain torch, by searching."""

from itertools import product

import torch
from torch import Tensor

from sparseconv.backends.reference.coords import output_coords
from sparseconv.backends.reference.rulebook import rulebook

CUBE = [v for tap in product((-1, 0, 1), repeat=3) for v in tap]
CORNERS = [v for tap in product((0, 1), repeat=3) for v in tap]


def pyramid(
    coords: Tensor,  # [N, 4] int32
    order: Tensor,  # opaque
    neighbours: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Return an empty int64 [0], for the reference searches, and the rulebook if asked for."""
    del order
    made = torch.zeros(0, dtype=torch.int64, device=coords.device)
    return made, list(cube_rulebook(coords, made, 0)) if neighbours else []


def cube_rulebook(
    coords: Tensor,  # [N, 4] int32
    pyramid: Tensor,  # opaque
    depth: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rulebook of 3 x 3 x 3 taps on the sites themselves."""
    del depth
    return rulebook(coords, pyramid, coords, CUBE, [1, 1, 1], True)


def halve(
    coords: Tensor,  # [N, 4] int32
    pyramid: Tensor,  # opaque
    depth: int,
    neighbours: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    """Return the sites `floor(xyz / 2)` in Z-order, the rulebook to them, and theirs if asked."""
    halved = output_coords(coords, CORNERS, [2, 2, 2], [], [], False)
    cube = list(cube_rulebook(halved, pyramid, depth + 1)) if neighbours else []
    return halved, *rulebook(coords, pyramid, halved, CORNERS, [2, 2, 2], False), cube
