"""Height of points above the floor or the ground beneath them."""

from __future__ import annotations

import numpy as np

LEVEL_CELL = 0.1
CELL = 2.0
LARGEST_GRID = 1024


def height_above_ground(
    xyz: np.ndarray,  # [N, 3]
    slope: float,
) -> np.ndarray:  # [N]
    """Return the height of each point above the estimated ground, metres.

    The ground is the lower envelope of the low points of columns of 2 m, rising at most by `slope`
    between columns, so that the ground under trees and behind buildings is that of their
    surroundings. With slope 0 it is one level for all, the height that 1 % of the occupied cells
    lie below.

    Args:
        xyz: finite points, z up, metres, float [N, 3].
        slope: rise over run, 0 or more.

    Returns:
        float64 [N].
    """
    if len(xyz) == 0:
        return np.zeros(0)
    return xyz[:, 2] - (_terrain(xyz, slope) if slope else _level(xyz))


def _level(xyz: np.ndarray) -> float:
    low = xyz.min(0)
    cells = np.floor((xyz - low) / LEVEL_CELL).astype(np.int64)
    _, first = np.unique(cells @ np.array([1 << 42, 1 << 21, 1]), return_index=True)
    return float(low[2] + LEVEL_CELL * np.percentile(cells[first, 2], 1))


def _terrain(xyz: np.ndarray, slope: float) -> np.ndarray:
    low = xyz[:, :2].min(0)
    extent = float((xyz[:, :2].max(0) - low).max())
    cell = max(CELL, extent / (LARGEST_GRID - 2))
    column = np.floor((xyz[:, :2] - low) / cell).astype(np.int64)
    shape = column.max(0) + 1
    flat = column[:, 0] * shape[1] + column[:, 1]
    surface = _lowest(flat, xyz[:, 2], int(shape.prod())).reshape(shape)
    rise = slope * cell
    for _ in range(64):
        lower = surface
        for axis in (0, 1):
            lower = np.minimum(lower, _shifted(lower, axis, 1) + rise)
            lower = np.minimum(lower, _shifted(lower, axis, -1) + rise)
        if np.array_equal(lower, surface):
            break
        surface = lower
    return _bilinear(surface, (xyz[:, :2] - low) / cell - 0.5)


def _lowest(flat: np.ndarray, z: np.ndarray, count: int) -> np.ndarray:
    """Return the height below which a tenth of a column's points lie, inf where it has few."""
    order = np.lexsort((z, flat))
    number = np.bincount(flat, minlength=count)
    start = np.cumsum(number) - number
    # not the lowest point: reflections put single points under the ground
    place = start + np.minimum(number - 1, np.maximum(number // 10, 1)).clip(min=0)
    enough = number >= 3
    surface = np.full(count, np.inf)
    surface[enough] = z[order][place[enough]]
    if not enough.any():
        surface[:] = np.median(z)
    return surface


def _shifted(grid: np.ndarray, axis: int, step: int) -> np.ndarray:
    out = np.full_like(grid, np.inf)
    here, there = [slice(None)] * 2, [slice(None)] * 2
    here[axis], there[axis] = (slice(1, None), slice(None, -1))[::step]
    out[tuple(here)] = grid[tuple(there)]
    return out


def _bilinear(grid: np.ndarray, at: np.ndarray) -> np.ndarray:
    # a column no slope has reached yet takes the lowest known height
    grid = np.where(np.isfinite(grid), grid, grid[np.isfinite(grid)].min())
    at = at.clip(0, np.array(grid.shape) - 1)
    base = np.minimum(np.floor(at).astype(np.int64), np.maximum(np.array(grid.shape) - 2, 0))
    fraction = at - base
    following = np.minimum(base + 1, np.array(grid.shape) - 1)
    (i, j), (k, m) = base.T, following.T
    u, v = fraction.T
    lower = grid[i, j] * (1 - u) + grid[k, j] * u
    upper = grid[i, m] * (1 - u) + grid[k, m] * u
    return lower * (1 - v) + upper * v
