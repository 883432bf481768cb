"""Random changes to a training scene: pose, size, noise, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparseconv.io.point_cloud import PointCloud
from sparseconv.tasks.recipe import Augmentation
from sparseconv.transforms.compose import Compose, Sometimes
from sparseconv.transforms.crop import CropBox, DropPoints
from sparseconv.transforms.jitter import Jitter
from sparseconv.transforms.rigid import Flip, Scale, Tilt, Yaw

LEAST_POINTS = 500


def augmenter(how: Augmentation) -> Compose:
    """Return the transform that changes scenes at random.

    Args:
        how: the ranges to draw from.
    """
    steps = [DropPoints(1 - how.keep)]
    if how.reach is not None:
        steps.append(Reach(how.reach))
    return Compose(
        [
            *steps,
            Sometimes(DropBeams(), how.beams),
            Sometimes(Piece(*how.box), how.crop),
            Scale(*how.scale),
            Flip(),
            Yaw(),
            Tilt(how.tilt),
            UpToJitter(how.jitter),
        ]
    )


@dataclass(frozen=True)
class Reach:
    """Keep the points within a horizontal distance of the origin.

    Args:
        metres: the distance.
    """

    metres: float

    def __call__(self, cloud: PointCloud, rng: np.random.Generator | None = None) -> PointCloud:
        """Return the near points."""
        return cloud.select(np.hypot(cloud.xyz[:, 0], cloud.xyz[:, 1]) < self.metres)


@dataclass(frozen=True)
class DropBeams:
    """Leave out every second scan line of a LiDAR at the origin.

    Args:
        low: smallest height of a band of elevation, degrees.
        high: largest.
    """

    low: float = 0.35
    high: float = 0.7

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the cloud with half of its lines."""
        away = np.maximum(np.hypot(cloud.xyz[:, 0], cloud.xyz[:, 1]), 1e-6)
        elevation = np.degrees(np.arctan2(cloud.xyz[:, 2], away))
        band = np.floor(elevation / rng.uniform(self.low, self.high)).astype(np.int64)
        return cloud.select(band % 2 == 0)


@dataclass(frozen=True)
class Piece:
    """Cut out a box of random edges around a random point; the full height stays.

    Args:
        low: shortest horizontal edge, metres.
        high: longest.
    """

    low: float
    high: float

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the piece, or the whole cloud where hardly anything would be left."""
        piece = CropBox((*rng.uniform(self.low, self.high, 2), np.inf))(cloud, rng)
        return piece if len(piece) >= LEAST_POINTS else cloud


@dataclass(frozen=True)
class UpToJitter:
    """Add noise of a random standard deviation.

    Args:
        sigma: largest standard deviation, metres.
    """

    sigma: float

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the noisy cloud."""
        return Jitter(rng.uniform(0, self.sigma))(cloud, rng)
