"""Noise on positions."""

from dataclasses import dataclass

import numpy as np

from sparseconv._errors import complain
from sparseconv.io.point_cloud import PointCloud


@dataclass(frozen=True)
class Jitter:
    """Add independent normal noise to every coordinate.

    Args:
        sigma: standard deviation, metres.
        clip: noise is cut at this many standard deviations.
    """

    sigma: float = 0.005
    clip: float = 3.0

    def __post_init__(self):
        if self.sigma < 0:
            raise ValueError(complain("sigma", "metres >= 0", self.sigma))

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the noisy cloud."""
        noise = rng.normal(0, 1, cloud.xyz.shape).clip(-self.clip, self.clip)
        return cloud.replace(xyz=cloud.xyz + self.sigma * noise)
