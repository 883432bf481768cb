"""Where: levels of half the resolution, and rulebooks that follow from them. No gradient."""

import torch
from torch import Tensor

from sparseconv.backends.reference import pyramid as reference
from sparseconv.ops._checks import check_coords
from sparseconv.ops._registry import compiled, define
from sparseconv.ops.rulebook import fake_pairs


def _fake_cube(coords, neighbours):
    return list(fake_pairs(coords, 27)) if neighbours else []


def _fake_pyramid(coords, order, neighbours):
    words = torch.library.get_ctx().new_dynamic_size(min=0)
    return coords.new_empty(words, dtype=torch.int64), _fake_cube(coords, neighbours)


def _fake_cube_rulebook(coords, pyramid, depth):
    return fake_pairs(coords, 27)


def _fake_halve(coords, pyramid, depth, neighbours):
    halved = coords.new_empty(torch.library.get_ctx().new_dynamic_size(min=0), 4)
    return halved, *fake_pairs(coords, 8), _fake_cube(coords, neighbours)


_pyramid = define(
    "pyramid(Tensor coords, Tensor order, bool neighbours) -> (Tensor, Tensor[])",
    reference=reference.pyramid,
    compiled=compiled("pyramid", "pyramid"),
    fake=_fake_pyramid,
)
_cube_rulebook = define(
    "cube_rulebook(Tensor coords, Tensor pyramid, int depth) -> (Tensor, Tensor, Tensor)",
    reference=reference.cube_rulebook,
    compiled=compiled("pyramid", "cube_rulebook"),
    fake=_fake_cube_rulebook,
)
_halve = define(
    "halve(Tensor coords, Tensor pyramid, int depth, bool neighbours) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor[])",
    reference=reference.halve,
    compiled=compiled("pyramid", "halve"),
    fake=_fake_halve,
)


def pyramid(
    coords: Tensor,  # [N, 4] int32
    order: Tensor,  # opaque
    neighbours: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Build the levels of half, a quarter, ... of the resolution, from which rulebooks follow.

    Args:
        coords: int32 [N, 4].
        order: what `site_order(coords)` returned, or int64 [0].
        neighbours: whether to return what `cube_rulebook` gives for `coords`, too.

    Returns:
        The pyramid, int64, opaque: 16 bytes a site of every level above and 4 for each of its
        neighbours, and 4 a site that was not in Z-order. Where sites repeat or do not fit a 62-bit
        key it is a stub, with which the ops that take a pyramid search. Then the three tensors of
        the rulebook, or none.

    Raises:
        TypeError, ValueError: `coords` is not int32 [N, 4].

    Source:
        Wang et al., "O-CNN", arXiv:1712.01537: neighbours of an octree's nodes from their parents'.
    """
    check_coords("coords", coords)
    return _pyramid(coords, order, neighbours)


def cube_rulebook(
    coords: Tensor,  # [N, 4] int32
    pyramid: Tensor,  # opaque
    depth: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pair every site with its neighbours in the cube of 3 x 3 x 3 taps.

    What `rulebook` gives for `coords` on itself and those offsets, without a search.

    Args:
        coords: int32 [N, 4], unique.
        pyramid: what `pyramid` returned for the sites that are `coords` after `depth` halvings.
        depth: how many times those sites were halved.

    Returns:
        in_rows int32 [P], out_rows int32 [P], sorted by (tap, out row); segments int64 [28].
    """
    check_coords("coords", coords)
    return _cube_rulebook(coords, pyramid, depth)


def halve(
    coords: Tensor,  # [N, 4] int32
    pyramid: Tensor,  # opaque
    depth: int,
    neighbours: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    """Find the sites `floor(xyz / 2)` and the rulebook of the 2 x 2 x 2 taps that reach them.

    Args:
        coords: int32 [N, 4], unique.
        pyramid: what `pyramid` returned for the sites that are `coords` after `depth` halvings.
        depth: how many times those sites were halved.
        neighbours: whether to return what `cube_rulebook` gives for the sites found, too.

    Returns:
        Sites int32 [M, 4] in Z-order; in_rows int32 [N], out_rows int32 [N], sorted by (tap, out
        row); segments int64 [9]; then the three tensors of the rulebook between neighbours, or
        none.
    """
    check_coords("coords", coords)
    return _halve(coords, pyramid, depth, neighbours)
