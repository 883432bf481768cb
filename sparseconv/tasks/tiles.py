"""Cut a large scan into pieces that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# a voxel takes about 2 kB in the small network: rulebooks, and the features that are alive at once
LARGEST_TILE = 400_000
MARGIN = 64


def tiles(
    xyz: np.ndarray,  # [N, 3]
    voxel: float,
    largest: int = LARGEST_TILE,
    margin: int = MARGIN,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the tiles of a scan; their cores cover every point once.

    A tile with more than `largest` voxels is halved across its longer horizontal side, at the
    median of its voxels.

    Args:
        xyz: finite points, metres.
        voxel: edge of a voxel, metres.
        largest: most voxels of a core.
        margin: voxels around a core that the network sees, too.

    Yields:
        Rows of the points of tile and margin, int64 [M], ascending; and a mask [M] of the core.
    """
    if len(xyz) == 0:
        return
    cells = np.floor((xyz - xyz.min(0)) / voxel).astype(np.int64)
    extent = cells.max(0) + 1
    # a number per voxel where it fits 63 bits; else points stand for voxels
    flat = (cells[:, 0] * extent[1] + cells[:, 1]) * extent[2] + cells[:, 2]
    fits = float(extent[0]) * float(extent[1]) * float(extent[2]) < 2**62
    first = np.unique(flat, return_index=True)[1] if fits else np.arange(len(xyz))
    if len(first) <= largest:
        every = np.arange(len(xyz))
        yield every, np.ones(len(xyz), dtype=bool)
        return
    flat_cells = cells[:, :2]
    for low, high in _boxes(flat_cells[first], largest):
        near = ((flat_cells >= low - margin) & (flat_cells < high + margin)).all(1)
        rows = np.flatnonzero(near)
        core = ((flat_cells[rows] >= low) & (flat_cells[rows] < high)).all(1)
        yield rows, core


def _boxes(voxels: np.ndarray, largest: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return boxes [low, high) of at most `largest` voxels each that share no voxel."""
    waiting = [(voxels, voxels.min(0), voxels.max(0) + 1)]
    done = []
    while waiting:
        inside, low, high = waiting.pop()
        axis = int(np.argmax(high - low))
        cut = int(np.median(inside[:, axis]))
        cut = max(cut, int(low[axis]) + 1)
        if len(inside) <= largest or cut >= high[axis]:
            done.append((low, high))
            continue
        below = inside[:, axis] < cut
        middle_high, middle_low = high.copy(), low.copy()
        middle_high[axis] = middle_low[axis] = cut
        waiting.append((inside[~below], middle_low, high))
        waiting.append((inside[below], low, middle_high))
    return done
