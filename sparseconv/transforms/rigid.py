"""Turn, tilt, mirror and scale a cloud; normals follow."""

from dataclasses import dataclass

import numpy as np

from sparseconv._errors import complain
from sparseconv.io.point_cloud import PointCloud


def moved(cloud: PointCloud, matrix: np.ndarray) -> PointCloud:
    """Return the cloud with `xyz @ matrix.T`, and its normals transformed to match.

    Args:
        cloud: any cloud.
        matrix: [3, 3], invertible.
    """
    attributes = dict(cloud.attributes)
    if "normal" in attributes:
        normal = attributes["normal"]
        turned = normal.astype(np.float64) @ np.linalg.inv(matrix)
        size = np.linalg.norm(turned, axis=1, keepdims=True)
        attributes["normal"] = (turned / np.where(size > 0, size, 1)).astype(normal.dtype)
    return cloud.replace(xyz=cloud.xyz @ matrix.T, attributes=attributes)


@dataclass(frozen=True)
class Yaw:
    """Turn about z by a random angle.

    Args:
        limit: the angle is uniform in -limit to limit, radians.
    """

    limit: float = np.pi

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the turned cloud."""
        angle = rng.uniform(-self.limit, self.limit)
        c, s = np.cos(angle), np.sin(angle)
        return moved(cloud, np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]))


@dataclass(frozen=True)
class Tilt:
    """Lean the vertical by a random small angle in a random direction.

    Args:
        limit: largest angle, radians.
    """

    limit: float = np.radians(3.0)

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the leaning cloud."""
        angle, heading = rng.uniform(0, self.limit), rng.uniform(-np.pi, np.pi)
        x, y = np.cos(heading), np.sin(heading)
        cross = np.array([[0.0, 0.0, y], [0.0, 0.0, -x], [-y, x, 0.0]])
        matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
        return moved(cloud, matrix)


@dataclass(frozen=True)
class Flip:
    """Mirror the cloud along x and along y, each with a probability.

    Args:
        probability: of each, 0 to 1.
    """

    probability: float = 0.5

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the mirrored cloud."""
        signs = np.where(rng.random(2) < self.probability, -1.0, 1.0)
        return moved(cloud, np.diag([*signs, 1.0]))


@dataclass(frozen=True)
class Scale:
    """Scale about the origin by a random factor, the same along every axis.

    Args:
        low: smallest factor, positive.
        high: largest factor.
    """

    low: float = 0.9
    high: float = 1.1

    def __post_init__(self):
        if not 0 < self.low <= self.high:
            raise ValueError(complain("low, high", "0 < low <= high", (self.low, self.high)))

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the scaled cloud."""
        return cloud.replace(xyz=cloud.xyz * rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class Shift:
    """Move by a random offset.

    Args:
        limit: each coordinate moves by at most this, metres.
    """

    limit: float = 1.0

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the moved cloud."""
        return cloud.replace(xyz=cloud.xyz + rng.uniform(-self.limit, self.limit, 3))
