"""Active sites: index, look-up, deduplication and output sites."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import dense, sites, steps


def site_index(
    coords: Tensor,  # [N, 4] int32
) -> Tensor:  # [capacity] int64
    """Return a hash table from site to row: capacity is a power of two >= 2 N, at least 16."""
    coords = sites("coords", coords)
    table = torch.empty(_native.index_capacity(coords.shape[0]), dtype=torch.int64)
    _native.site_index(
        coords.data_ptr(),
        coords.shape[0],
        table.data_ptr(),
        table.shape[0],
        torch.get_num_threads(),
    )
    return table


def site_order(
    coords: Tensor,  # [N, 4] int32
) -> Tensor:  # [words] int64
    """Return the order of sites; see csrc/kernels/pyramid.hpp."""
    coords = sites("coords", coords)
    return _native.site_order(coords.data_ptr(), coords.shape[0], torch.get_num_threads())


def checked_table(
    coords: Tensor,  # [N, 4] int32
    table: Tensor,  # opaque
) -> Tensor:
    """Return the contiguous index of `coords`; an empty one, as the reference makes, is let by."""
    table = dense("table", table, torch.int64, 1)
    expected = _native.index_capacity(coords.shape[0])
    if table.shape[0] not in (0, expected):
        raise ValueError(
            complain(
                "table",
                f"{expected} slots, the index of {coords.shape[0]} sites",
                f"{table.shape[0]}",
                "pass what site_index(coords) returned for these coords",
            )
        )
    return table


def lookup(
    coords: Tensor,  # [N, 4] int32
    table: Tensor,  # opaque
    queries: Tensor,  # [Q, 4] int32
) -> Tensor:  # [Q] int32
    """Return the (lowest) row of each query, -1 where absent."""
    coords, queries = sites("coords", coords), sites("queries", queries)
    table = checked_table(coords, table)
    rows = torch.empty(queries.shape[0], dtype=torch.int32)
    _native.lookup(
        coords.data_ptr(),
        coords.shape[0],
        table.data_ptr(),
        table.shape[0],
        queries.data_ptr(),
        queries.shape[0],
        rows.data_ptr(),
        torch.get_num_threads(),
    )
    return rows


def unique_coords(
    coords: Tensor,  # [N, 4] int32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return unique [U, 4] in Z-order, inverse [N], counts [U] and first [U]."""
    coords = sites("coords", coords)
    return _native.unique_coords(coords.data_ptr(), coords.shape[0], torch.get_num_threads())


def output_coords(
    coords: Tensor,  # [N, 4] int32
    offsets: list[int],  # 3K
    stride: list[int],  # 3
    lower: list[int],  # 3, or empty
    upper: list[int],  # 3 exclusive, or empty
    transposed: bool,
) -> Tensor:  # [U, 4] int32
    """Return the active output sites in Z-order.

    Raises:
        ValueError: a site does not fit int32.
    """
    coords = sites("coords", coords)
    try:
        return _native.output_coords(
            coords.data_ptr(),
            coords.shape[0],
            steps("offsets", offsets, len(offsets) // 3 * 3),
            steps("stride", stride, 3, least=1),
            [int(value) for value in lower],
            [int(value) for value in upper],
            transposed,
        )
    except OverflowError as error:
        raise ValueError(
            complain(
                "coords",
                "output sites within int32",
                f"a coordinate of {error}",
                "move the scan nearer to the origin",
            )
        ) from None
