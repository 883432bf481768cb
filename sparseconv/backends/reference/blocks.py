"""An index of sites by blocks of 4 x 4 x 4 cells, in plain torch."""

import torch
from torch import Tensor

from sparseconv.backends.reference.coords import unique_coords

SHIFT = 2
HEADER = 8


def block_index(
    coords: Tensor,  # [N, 4] int32
) -> Tensor:  # [words] int32
    """Return the words that csrc/core/block_index.hpp describes."""
    device = coords.device
    sites, _, _, rows = unique_coords(coords)
    home = torch.cat([sites[:, :1], sites[:, 1:] >> SHIFT], 1)
    homes, block = torch.unique_consecutive(home, dim=0, return_inverse=True)
    count = homes.shape[0]
    begins = torch.searchsorted(block, torch.arange(count, device=device))
    x, y, z = (_spread(sites[:, axis].to(torch.int64)) for axis in (1, 2, 3))
    bits = torch.ones_like(block) << (x << 2 | y << 1 | z)
    # bits of a block differ: their sum is their union
    mask = torch.zeros(count, dtype=torch.int64, device=device).scatter_add_(0, block, bits)
    buckets = 16
    while buckets < 2 * count:
        buckets *= 2
    bucket = _hash(homes.to(torch.int64)) & (buckets - 1)
    order = torch.argsort(bucket, stable=True)
    places = torch.searchsorted(bucket[order], torch.arange(buckets + 1, device=device))
    head = torch.zeros(HEADER, dtype=torch.int64, device=device)
    for place, value in enumerate((coords.shape[0], rows.shape[0], count, buckets)):
        head[place] = value
    blocks = torch.cat(
        [
            homes.to(torch.int64),
            torch.stack([_word(mask), _word(mask >> 32), begins, torch.zeros_like(begins)], 1),
        ],
        1,
    )
    words = torch.cat([head, blocks.reshape(-1), places, order, rows])
    return words.to(torch.int32)


def _spread(
    values: Tensor,  # int64
) -> Tensor:
    """Move the second lowest bit three places up from the lowest; the others go."""
    return (values & 1) | (values & 2) << 2


def _word(
    values: Tensor,  # int64
) -> Tensor:
    """Return the low 32 bits as a signed number."""
    return ((values & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


def _hash(
    homes: Tensor,  # [L, 4] int64
) -> Tensor:
    """Return the hash of blocks: products wrap around."""
    factors = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
    signed = [f - 2**64 if f >= 2**63 else f for f in factors]
    value = sum(homes[:, axis] * signed[axis] for axis in range(4))
    value = (value ^ (value >> 32 & 0xFFFFFFFF)) * signed[3]
    return value ^ (value >> 32 & 0xFFFFFFFF)
