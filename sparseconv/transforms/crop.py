"""Keep a part of a cloud: a ball, a box, a range, a share of the points."""

from dataclasses import dataclass

import numpy as np

from sparseconv._errors import complain
from sparseconv.io.point_cloud import PointCloud


def _centre(cloud: PointCloud, rng: np.random.Generator) -> np.ndarray:
    """Return one random point with finite coordinates."""
    rows = np.flatnonzero(np.isfinite(cloud.xyz).all(1))
    return cloud.xyz[rows[rng.integers(len(rows))]] if len(rows) else np.zeros(3)


@dataclass(frozen=True)
class CropBall:
    """Keep the points within a distance of a random point of the cloud.

    Args:
        radius: metres.
    """

    radius: float

    def __post_init__(self):
        if not self.radius > 0:
            raise ValueError(complain("radius", "metres > 0", self.radius))

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the ball; an empty cloud stays empty."""
        apart = cloud.xyz - _centre(cloud, rng)
        return cloud.select((apart * apart).sum(1) <= self.radius**2)


@dataclass(frozen=True)
class CropBox:
    """Keep the points in an axis-aligned box around a random point of the cloud.

    Args:
        size: edge lengths (x, y, z), metres; inf keeps an axis whole.
    """

    size: tuple[float, float, float]

    def __post_init__(self):
        if len(self.size) != 3 or min(self.size) <= 0:
            raise ValueError(complain("size", "three lengths > 0 in metres", self.size))

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the box; an empty cloud stays empty."""
        apart = np.abs(cloud.xyz - _centre(cloud, rng))
        return cloud.select((apart <= np.asarray(self.size) / 2).all(1))


@dataclass(frozen=True)
class DropPoints:
    """Remove each point with the same probability, drawn per cloud.

    Args:
        limit: the share removed is uniform in 0 to limit, below 1.
    """

    limit: float = 0.3

    def __post_init__(self):
        if not 0 <= self.limit < 1:
            raise ValueError(complain("limit", "0 <= limit < 1", self.limit))

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the thinner cloud, order kept."""
        return cloud.select(rng.random(len(cloud)) >= rng.uniform(0, self.limit))


@dataclass(frozen=True)
class DropFar:
    """Remove points with a probability that grows with the square of their distance.

    Args:
        reach: distance from the origin, metres, at which every point is removed.
    """

    reach: float = 80.0

    def __post_init__(self):
        if not self.reach > 0:
            raise ValueError(complain("reach", "metres > 0", self.reach))

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the cloud without the points that were lost."""
        share = (cloud.xyz**2).sum(1) / self.reach**2
        return cloud.select(rng.random(len(cloud)) >= share)
