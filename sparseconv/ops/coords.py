"""Where: site index, look-up, deduplication and output sites. Integers, no gradient."""

import torch
from torch import Tensor

from sparseconv.backends.reference import coords as reference
from sparseconv.ops._checks import check_coords, check_geometry
from sparseconv.ops._registry import compiled, define


def _fresh_size() -> torch.SymInt:
    return torch.library.get_ctx().new_dynamic_size(min=0)


def _fake_site_index(coords):
    return coords.new_empty(_fresh_size(), dtype=torch.int64)


def _fake_lookup(coords, table, queries):
    return queries.new_empty(queries.shape[0])


def _fake_unique_coords(coords):
    count = _fresh_size()
    return (
        coords.new_empty(count, 4),
        coords.new_empty(coords.shape[0], dtype=torch.int64),
        coords.new_empty(count, dtype=torch.int64),
        coords.new_empty(count, dtype=torch.int64),
    )


def _fake_output_coords(coords, offsets, stride, lower, upper, transposed):
    return coords.new_empty(_fresh_size(), 4)


_site_index = define(
    "site_index(Tensor coords) -> Tensor",
    reference=reference.site_index,
    compiled=compiled("coords", "site_index"),
    fake=_fake_site_index,
)
_site_order = define(
    "site_order(Tensor coords) -> Tensor",
    reference=reference.site_order,
    compiled=compiled("coords", "site_order"),
    fake=_fake_site_index,
)
_lookup = define(
    "lookup(Tensor coords, Tensor table, Tensor queries) -> Tensor",
    reference=reference.lookup,
    compiled=compiled("coords", "lookup"),
    fake=_fake_lookup,
)
_unique_coords = define(
    "unique_coords(Tensor coords) -> (Tensor, Tensor, Tensor, Tensor)",
    reference=reference.unique_coords,
    compiled=compiled("coords", "unique_coords"),
    fake=_fake_unique_coords,
)
_output_coords = define(
    "output_coords(Tensor coords, int[] offsets, int[] stride, int[] lower, int[] upper, "
    "bool transposed) -> Tensor",
    reference=reference.output_coords,
    compiled=compiled("coords", "output_coords"),
    fake=_fake_output_coords,
)


def site_index(
    coords: Tensor,  # [N, 4] int32
) -> Tensor:
    """Build the active-site index: a hash map from (batch, x, y, z) to row.

    Any int32 coordinate is accepted; a look-up compares all four numbers, so no collision can
    give a wrong row.

    Args:
        coords: int32 [N, 4].

    Returns:
        The table, int64, opaque: at most 32 bytes a site.

    Raises:
        TypeError, ValueError: `coords` is not int32 [N, 4].
    """
    check_coords("coords", coords)
    return _site_index(coords)


def site_order(
    coords: Tensor,  # [N, 4] int32
) -> Tensor:
    """Sort sites, for `pyramid`.

    Args:
        coords: int32 [N, 4].

    Returns:
        The order, int64, opaque: at most 12 bytes a site. Its first numbers, where it has any, are
        N; how many sites differ, -1 where they were not sorted; the smallest batch, x, y, z; and
        the largest.

    Raises:
        TypeError, ValueError: `coords` is not int32 [N, 4].
    """
    check_coords("coords", coords)
    return _site_order(coords)


def lookup(
    coords: Tensor,  # [N, 4] int32
    table: Tensor,  # opaque
    queries: Tensor,  # [Q, 4] int32
) -> Tensor:
    """Find the row of each query site.

    Args:
        coords: int32 [N, 4], the indexed sites.
        table: what `site_index(coords)` returned.
        queries: int32 [Q, 4].

    Returns:
        int32 [Q], -1 where the site is not active; the lowest row where a site occurs twice.
    """
    check_coords("coords", coords)
    check_coords("queries", queries)
    return _lookup(coords, table, queries)


def unique_coords(
    coords: Tensor,  # [N, 4] int32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Deduplicate sites and put them in Z-order.

    Z-order goes by batch item, then by the bits of x, y, z interleaved, x the highest of three,
    each coordinate shifted by 2^31: neighbours lie near each other, and halving keeps the order.

    Args:
        coords: int32 [N, 4].

    Returns:
        unique int32 [U, 4]; inverse int64 [N], the row of each input in `unique`; counts
        int64 [U]; first int64 [U], the lowest input row of each.
    """
    check_coords("coords", coords)
    return _unique_coords(coords)


def output_coords(
    coords: Tensor,  # [N, 4] int32
    offsets: list[int],  # 3K
    stride: list[int],  # 3
    lower: list[int],  # 3 or none
    upper: list[int],  # 3 or none
    transposed: bool,
) -> Tensor:
    """Find the active output sites of a convolution, in Z-order.

    `{o : o * stride + offset = q}` over active q and all taps, or, transposed,
    `{o * stride + offset}` over active o and all taps.

    Args:
        coords: int32 [N, 4], active sites.
        offsets: 3K ints, tap offsets in voxels, x-major.
        stride: three ints, voxels.
        lower: smallest x, y, z kept; empty for no bound.
        upper: first x, y, z no longer kept; empty for no bound.
        transposed: which of the two sets.

    Returns:
        int32 [U, 4].

    Raises:
        ValueError: `offsets`, `stride` or a bound is malformed, or an output site does not fit
            int32.
    """
    check_coords("coords", coords)
    check_geometry(offsets, stride, lower, upper)
    return _output_coords(coords, offsets, stride, lower, upper, transposed)
