"""Procedural scans of any number of voxels: tiles of streets or rooms side by side."""

from __future__ import annotations

import math
import re
from functools import lru_cache

import numpy as np

VOXEL_SIZES = {"street": 0.05, "room": 0.02}
NAME = re.compile(r"(street|room)-(\d+)([kM]?)")
UNITS = {"": 1, "k": 1_000, "M": 1_000_000}
SYMMETRIES = 8


def parse_size(name: str) -> tuple[str, int] | None:
    """Return kind and voxels of a name such as `street-200k`, or None."""
    found = NAME.fullmatch(name)
    if found is None or int(found[2]) == 0:
        return None
    return found[1], int(found[2]) * UNITS[found[3]]


@lru_cache(maxsize=8)
def _tile(kind: str, seed: int) -> np.ndarray:
    """Return the sites of one scan around its sensor or middle, int32 [M, 3], around it in turn."""
    if kind == "street":
        from sparseconv.datasets.procedural.street import generate_street

        xyz = generate_street(seed, beams=64).xyz
    else:
        from sparseconv.datasets.procedural.room import generate_room

        xyz = generate_room(seed, cameras=6, spacing=0.01, pose=False).xyz
        xyz = xyz - (xyz.min(0) + xyz.max(0)) / 2
    sites = np.unique(np.floor(xyz / VOXEL_SIZES[kind]).astype(np.int32), axis=0)
    return sites[np.argsort(np.arctan2(sites[:, 1], sites[:, 0]), kind="stable")]


def _turned(sites: np.ndarray, symmetry: int) -> np.ndarray:
    """Return sites turned and mirrored about the upright axis, in one of eight ways."""
    x, y, z = sites.T
    if symmetry & 1:
        x, y = y, x
    return np.stack([~x if symmetry & 2 else x, ~y if symmetry & 4 else y, z], 1)


def sized_points(kind: str, voxels: int) -> np.ndarray:
    """Return a point in each of exactly so many voxels, float64 [N, 3], metres.

    Scans of different seeds, turned and mirrored, lie side by side on a square; of the last one
    there is a sector as large as is needed, so that density is that of whole scans at any size.

    Args:
        kind: `"street"` or `"room"`.
        voxels: N.
    """
    tiles, missing = [], voxels
    while missing:
        tile = _turned(
            _tile(kind, len(tiles) // SYMMETRIES)[:missing],
            len(tiles) % SYMMETRIES,
        )
        tiles.append(tile)
        missing -= len(tile)
    # one voxel between tiles keeps them apart
    pitch = 2 + 2 * max(int(np.abs(tile[:, :2]).max()) for tile in tiles)
    side = math.ceil(math.sqrt(len(tiles)))
    for number, tile in enumerate(tiles):
        tile[:, 0] += number % side * pitch
        tile[:, 1] += number // side * pitch
    return (np.concatenate(tiles) + 0.5) * VOXEL_SIZES[kind]
