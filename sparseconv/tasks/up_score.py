"""How much a scan looks upright along a direction: a linear score fitted on procedural rooms.

`python -m sparseconv.tasks.up_score` fits the weights again and prints them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as dense

from sparseconv.datasets.procedural.room import generate_room
from sparseconv.tasks.surfels import VOXEL, Surfels, level_normals, surfels

# maximum likelihood on the rooms of `fit`, in the order of `describe`
WEIGHTS = np.array(
    [0.22, 1.93, -0.69, -1.83, 2.89, 1.24, 3.67, 0.02, -3.91, 0.16, -3.13, -2.21, -2.53]
)
FIRST_SEED = 700_000


def score(
    pieces: Surfels,
    up: np.ndarray,  # [3]
) -> float:
    """Return the log-odds, up to a constant of the scan, of a direction being up."""
    return float(describe(pieces, up) @ WEIGHTS)


def describe(
    pieces: Surfels,
    up: np.ndarray,  # [3]
) -> np.ndarray:  # [13]
    """Describe how a scan looks along a direction taken for up.

    The floor is the lowest level that holds at least 30 % as many level pieces as the fullest.

    Args:
        pieces: of the scan.
        up: unit vector.

    Returns:
        Shares of all pieces: level, upright, beneath the floor, on the floor, level at the height
        of seats and tables; shares of columns of 20 cm that reach down to the lowest height and
        up to the largest; mean relative height of all, of rough, of upright and of level pieces;
        the logarithm of height over width; metres of height beyond 3.2.
    """
    height = pieces.places @ up
    lean = np.abs(pieces.normals @ up)
    level = pieces.flat & (lean > np.cos(np.radians(15)))
    upright = pieces.flat & (lean < np.sin(np.radians(15)))
    low, high = np.percentile(height, [0.5, 99.5])
    span = max(high - low, 2 * VOXEL)
    layer = np.floor((height - low) / VOXEL).astype(int).clip(0, int(span / VOXEL) + 1)
    fullness = np.convolve(np.bincount(layer[level], minlength=4), np.ones(3), "same")
    above = height - low - VOXEL * (np.flatnonzero(fullness >= 0.3 * fullness.max())[0] + 0.5)
    parts = (
        level,
        upright,
        above < -0.15,
        level & (np.abs(above) < 0.12),
        level & (above > 0.25) & (above < 1.3),
    )
    lowest, highest, area = _columns(pieces.places, height, up)
    relative = (height - low) / span
    kinds = (np.ones_like(level), ~pieces.flat, upright, level)
    return np.array(
        [
            *(part.mean() for part in parts),
            (lowest < low + 0.15).mean(),
            (highest > high - 0.15).mean(),
            *(relative[kind].mean() if kind.any() else 0.5 for kind in kinds),
            np.log(span / np.sqrt(area)),
            max(span - 3.2, 0.0),
        ]
    )


def _columns(
    places: np.ndarray, height: np.ndarray, up: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return lowest and highest height of each column, and the area of the rectangle of all."""
    first = np.cross(up, np.eye(3)[np.abs(up).argmin()])
    first /= np.linalg.norm(first)
    across = np.stack([places @ first, places @ np.cross(up, first)], 1)
    across -= across.min(0)
    cell = np.floor(across / 0.2).astype(np.int64)
    _, column = np.unique(cell[:, 0] * (1 << 32) + cell[:, 1], return_inverse=True)
    lowest = np.full(column.max() + 1, np.inf)
    highest = -lowest
    np.minimum.at(lowest, column, height)
    np.maximum.at(highest, column, height)
    return lowest, highest, float(np.prod(across.max(0) + 0.1))


def fit(rooms: int = 200) -> tuple[np.ndarray, float]:
    """Fit the weights on rooms and pieces of rooms; return them and the share right among others.

    The chance of a direction is the softmax of its scores over the directions of a scan.
    """
    scans = [_scan(FIRST_SEED + row) for row in range(rooms)]
    scans = [scan for scan in scans if scan is not None]
    half = len(scans) // 2
    right = [
        int((given @ weights).argmax()) == true
        for taught, asked in ((scans[:half], scans[half:]), (scans[half:], scans[:half]))
        for weights in [_likeliest(taught)]
        for given, true in asked
    ]
    return _likeliest(scans).numpy(), float(np.mean(right))


def _scan(seed: int) -> tuple[torch.Tensor, int] | None:
    xyz = generate_room(seed).xyz
    rng = np.random.default_rng(seed)
    if rng.random() < 0.4:
        middle = xyz[rng.integers(len(xyz)), :2]
        inside = (np.abs(xyz[:, :2] - middle) < rng.uniform(0.9, 2, 2)).all(1)
        xyz = xyz[inside] if inside.sum() > 3000 else xyz
    pieces = surfels(xyz)
    trials = [sign * axis for axis in level_normals(pieces) for sign in (1.0, -1.0)]
    true = [row for row, trial in enumerate(trials) if trial[2] > np.cos(np.radians(10))]
    if not true:
        return None
    return torch.from_numpy(np.stack([describe(pieces, trial) for trial in trials])), true[0]


def _likeliest(scans: list[tuple[torch.Tensor, int]], pull: float = 1e-3) -> torch.Tensor:
    weights = torch.zeros(len(WEIGHTS), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([weights], max_iter=300)

    def loss() -> torch.Tensor:
        search.zero_grad()
        each = [dense.cross_entropy((x @ weights)[None], torch.tensor([t])) for x, t in scans]
        total = torch.stack(each).mean() + pull * weights.square().sum()
        total.backward()
        return total

    search.step(loss)
    return weights.detach()


if __name__ == "__main__":
    found, share = fit()
    print(f"WEIGHTS = np.array({np.round(found, 2).tolist()})  # right on others: {share:.2f}")
