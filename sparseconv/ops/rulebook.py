"""Where: which input row each tap of each output row reads. Integers, no gradient."""

import torch
from torch import Tensor

from sparseconv.backends.reference import rulebook as reference
from sparseconv.ops._checks import check_coords, check_geometry
from sparseconv.ops._registry import compiled, define


def _fake_rulebook(in_coords, table, out_coords, offsets, stride, same_sites):
    return _fake_pairs(in_coords, len(offsets) // 3)


def _fake_pairs(coords, taps):
    pairs = torch.library.get_ctx().new_dynamic_size(min=0)
    return (
        coords.new_empty(pairs),
        coords.new_empty(pairs),
        coords.new_empty(taps + 1, dtype=torch.int64),
    )


def _fake_cube_rulebook(coords, pyramid, depth):
    return _fake_pairs(coords, 27)


def _fake_halve(coords, pyramid, depth):
    halved = coords.new_empty(torch.library.get_ctx().new_dynamic_size(min=0), 4)
    return halved, *_fake_pairs(coords, 8)


_rulebook = define(
    "rulebook(Tensor in_coords, Tensor table, Tensor out_coords, int[] offsets, int[] stride, "
    "bool same_sites) -> (Tensor, Tensor, Tensor)",
    reference=reference.rulebook,
    compiled=compiled("rulebook", "rulebook"),
    fake=_fake_rulebook,
)


_cube_rulebook = define(
    "cube_rulebook(Tensor coords, Tensor pyramid, int depth) -> (Tensor, Tensor, Tensor)",
    reference=reference.cube_rulebook,
    compiled=compiled("rulebook", "cube_rulebook"),
    fake=_fake_cube_rulebook,
)
_halve = define(
    "halve(Tensor coords, Tensor pyramid, int depth) -> (Tensor, Tensor, Tensor, Tensor)",
    reference=reference.halve,
    compiled=compiled("rulebook", "halve"),
    fake=_fake_halve,
)


def rulebook(
    in_coords: Tensor,  # [N, 4] int32
    table: Tensor,  # opaque
    out_coords: Tensor,  # [M, 4] int32
    offsets: list[int],  # 3K
    stride: list[int],  # 3
    same_sites: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pair output rows with the input rows their taps read.

    Row i and row o are a pair of tap t iff they share the batch item and
    `in_coords[i].xyz == out_coords[o].xyz * stride + offset[t]`.

    Args:
        in_coords: int32 [N, 4], unique.
        table: what `site_index(in_coords)` returned, or int64 [0]: sites whose box is too large
            for sorted keys are looked up, in this table or in one made for the call.
        out_coords: int32 [M, 4].
        offsets: 3K ints, tap offsets in voxels, x-major.
        stride: three ints, voxels.
        same_sites: whether both coordinate tensors are the same rows, so that a symmetric
            offset list needs only half the look-ups.

    Returns:
        in_rows int32 [P], out_rows int32 [P], sorted by (tap, out row); segments int64 [K + 1].
    """
    check_coords("in_coords", in_coords)
    check_coords("out_coords", out_coords)
    check_geometry(offsets, stride)
    return _rulebook(in_coords, table, out_coords, offsets, stride, same_sites)


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find the sites `floor(xyz / 2)` and the rulebook of the 2 x 2 x 2 taps that reach them.

    Args:
        coords: int32 [N, 4], unique.
        pyramid: what `pyramid` returned for the sites that are `coords` after `depth` halvings.
        depth: how many times those sites were halved.

    Returns:
        Sites int32 [M, 4] in Z-order; in_rows int32 [N], out_rows int32 [N], sorted by (tap, out
        row); segments int64 [9].
    """
    check_coords("coords", coords)
    return _halve(coords, pyramid, depth)
