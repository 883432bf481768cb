"""Where: which input row each tap of each output row reads. Integers, no gradient."""

import torch
from torch import Tensor

from sparseconv.backends.reference import rulebook as reference
from sparseconv.ops._checks import check_coords, check_geometry
from sparseconv.ops._registry import compiled, define


def _fake_rulebook(in_coords, table, out_coords, offsets, stride, same_sites):
    return fake_pairs(in_coords, len(offsets) // 3)


def fake_pairs(coords: Tensor, taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a rulebook looks like to a tracer: pairs of a number yet unknown."""
    pairs = torch.library.get_ctx().new_dynamic_size(min=0)
    return (
        coords.new_empty(pairs),
        coords.new_empty(pairs),
        coords.new_empty(taps + 1, dtype=torch.int64),
    )


_rulebook = define(
    "rulebook(Tensor in_coords, Tensor table, Tensor out_coords, int[] offsets, int[] stride, "
    "bool same_sites) -> (Tensor, Tensor, Tensor)",
    reference=reference.rulebook,
    compiled=compiled("rulebook", "rulebook"),
    fake=_fake_rulebook,
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
