"""Active sites in plain torch: site index, look-up, deduplication, output sites."""

import torch
from torch import Tensor

from sparseconv._errors import complain

INT32 = torch.iinfo(torch.int32)


def site_index(
    coords: Tensor,  # [N, 4] int32
) -> Tensor:
    """Return an empty int64 [0]: the reference looks up without a table."""
    return torch.zeros(0, dtype=torch.int64, device=coords.device)


def site_order(
    coords: Tensor,  # [N, 4] int32
) -> Tensor:
    """Return an empty int64 [0]: the reference sorts anew."""
    return torch.zeros(0, dtype=torch.int64, device=coords.device)


def lookup(
    coords: Tensor,  # [N, 4] int32
    table: Tensor,  # opaque
    queries: Tensor,  # [Q, 4] int32
) -> Tensor:
    """Return the (lowest) row of each query among `coords`, -1 where absent: int32 [Q]."""
    del table
    n = coords.shape[0]
    both = torch.cat([coords, queries])
    _, inverse = torch.unique(both, dim=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    row_of = torch.full((both.shape[0] + 1,), n, dtype=torch.int64, device=coords.device)
    rows = torch.arange(n, device=coords.device)
    row_of.scatter_reduce_(0, inverse[:n], rows, "amin")
    found = row_of[inverse[n:]]
    return torch.where(found < n, found, -1).to(torch.int32)


def z_order(
    coords: Tensor,  # [N, 4] int32
) -> Tensor:
    """Return the rows of sites in Z-order, int64 [N]; equal sites keep their order.

    Z-order: by batch item, then by the bits of x, y, z interleaved from the highest plane down, x
    before y before z in a plane, each coordinate shifted by 2^31.
    """
    shifted = coords[:, 1:].to(torch.int64) - INT32.min
    order = torch.argsort(_interleaved(shifted & 0xFFFF), stable=True)
    for key in (_interleaved(shifted >> 16), coords[:, 0]):
        order = order[torch.argsort(key[order], stable=True)]
    return order


def _interleaved(
    halves: Tensor,  # [N, 3] int64, below 2^16
) -> Tensor:
    key = torch.zeros_like(halves[:, 0])
    for bit in range(16):
        for axis in range(3):
            key |= (halves[:, axis] >> bit & 1) << (3 * bit + 2 - axis)
    return key


def unique_coords(
    coords: Tensor,  # [N, 4] int32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Deduplicate sites.

    Returns:
        unique int32 [U, 4] in Z-order; inverse int64 [N]; counts int64 [U];
        first int64 [U], the lowest row of each.
    """
    n = coords.shape[0]
    if n == 0:
        none = torch.zeros(0, dtype=torch.int64, device=coords.device)
        return coords.clone(), none, none.clone(), none.clone()
    unique, inverse, counts = torch.unique(coords, dim=0, return_inverse=True, return_counts=True)
    order = z_order(unique)
    unique, counts = unique[order], counts[order]
    inverse = torch.argsort(order)[inverse.reshape(-1)]
    first = torch.full((unique.shape[0],), n, dtype=torch.int64, device=coords.device)
    first.scatter_reduce_(0, inverse, torch.arange(n, device=coords.device), "amin")
    return unique, inverse, counts, first


def output_coords(
    coords: Tensor,  # [N, 4] int32
    offsets: list[int],  # 3K
    stride: list[int],  # 3
    lower: list[int],  # 3, or empty
    upper: list[int],  # 3 exclusive, or empty
    transposed: bool,
) -> Tensor:
    """Return the active output sites in Z-order, int32 [U, 4].

    Not transposed: `{o : o * stride + offset = q}` over active q and taps. Transposed:
    `{o * stride + offset}` over active o and taps. Only `lower <= site < upper` is kept.

    Raises:
        ValueError: a site does not fit int32.
    """
    wide = coords.to(torch.int64)
    step = torch.tensor(stride, dtype=torch.int64, device=coords.device)
    found = [wide[:0]]
    for t in range(len(offsets) // 3):
        offset = torch.tensor(offsets[3 * t : 3 * t + 3], dtype=torch.int64, device=coords.device)
        if transposed:
            xyz = wide[:, 1:] * step + offset
            keep = torch.ones_like(wide[:, 0], dtype=torch.bool)
        else:
            moved = wide[:, 1:] - offset
            keep = (moved % step == 0).all(1)
            xyz = torch.div(moved, step, rounding_mode="floor")
        if lower:
            keep &= (xyz >= torch.tensor(lower, device=coords.device)).all(1)
        if upper:
            keep &= (xyz < torch.tensor(upper, device=coords.device)).all(1)
        found.append(torch.cat([wide[:, :1], xyz], 1)[keep])
    sites = torch.cat(found)
    if sites.numel() and (sites.min() < INT32.min or sites.max() > INT32.max):
        raise ValueError(
            complain(
                "coords",
                "output sites within int32",
                f"a coordinate of {int(sites.abs().max())}",
                "move the scan nearer to the origin",
            )
        )
    return unique_coords(sites.to(torch.int32))[0]
