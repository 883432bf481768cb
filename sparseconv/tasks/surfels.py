"""A scan as small pieces of surface, and the directions their normals share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sparseconv.tasks.surface import moments, principal_axes
from sparseconv.transforms.voxelize import voxelize

VOXEL = 0.05
MOST_POINTS = 400_000


@dataclass(frozen=True)
class Surfels:
    """Small pieces of the surface of a scan, one a voxel.

    Args:
        places: mean points, metres.  # [S, 3]
        normals: unit vectors of either sign.  # [S, 3]
        flat: whether the piece is flat enough to have a normal, bool [S].
    """

    places: np.ndarray
    normals: np.ndarray
    flat: np.ndarray


def surfels(
    xyz: np.ndarray,  # [N, 3]
    voxel: float = VOXEL,
) -> Surfels:
    """Return the pieces of the surface of a scan of finite points."""
    xyz = xyz[:: max(1, len(xyz) // MOST_POINTS)]
    local = (xyz - xyz.mean(0)) / voxel
    x, _ = voxelize(local, 1.0, features=moments(torch.from_numpy(local)))
    values, normals, _, count = principal_axes(x.topology, x.features, 1.0)
    flatness = (values[:, 1] - values[:, 0]) / values[:, 2].clamp(min=1e-12)
    flat = (flatness > 0.4) & (values[:, 0].sqrt() < 0.3) & (count >= 5)
    return Surfels(x.features[:, 1:4].numpy() * voxel, normals.numpy(), flat.numpy())


def level_normals(pieces: Surfels, most: int = 5) -> list[np.ndarray]:
    """Return directions that many normals share, and those square to two of the first three."""
    normals = pieces.normals[pieces.flat]
    found: list[np.ndarray] = []
    left = np.ones(len(normals), dtype=bool)
    trial = _hemisphere(600)
    while len(found) < most and left.sum() >= max(20, 0.03 * len(normals)):
        close = np.abs(trial @ normals[left].T) > np.cos(np.radians(8))
        axis = trial[close.sum(1).argmax()]
        for angle in (12, 8, 6):
            near = np.abs(normals @ axis) > np.cos(np.radians(angle))
            if near.sum() < 5:
                break
            axis = np.linalg.eigh(normals[near].T @ normals[near])[1][:, 2]
        if (np.abs(normals @ axis) > np.cos(np.radians(12))).mean() > 0.03:
            found.append(axis)
        left &= np.abs(normals @ axis) < np.cos(np.radians(25))
    for i, first in enumerate(found[:3]):
        for second in found[i + 1 : 3]:
            square = np.cross(first, second)
            length = np.linalg.norm(square)
            if length > 0.94 and is_new(square / length, found):
                found.append(square / length)
    return found


def squareness(
    pieces: Surfels,
    axis: np.ndarray,  # [3]
) -> float:
    """Return the share of flat pieces that lie square to an axis or along it, within 15 degrees."""
    if not pieces.flat.any():
        return 0.0
    lean = np.abs(pieces.normals[pieces.flat] @ axis)
    return float(((lean > np.cos(np.radians(15))) | (lean < np.sin(np.radians(15)))).mean())


def is_new(axis: np.ndarray, known: list[np.ndarray]) -> bool:
    """Return whether a direction is at least 12 degrees off all known ones and their opposites."""
    return all(abs(axis @ other) < np.cos(np.radians(12)) for other in known)


def _hemisphere(count: int) -> np.ndarray:
    """Return unit vectors spread evenly over half a sphere (a Fibonacci spiral), [count, 3]."""
    row = np.arange(count) + 0.5
    z = row / count
    turn = np.pi * (1 + 5**0.5) * row
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), z], 1)
