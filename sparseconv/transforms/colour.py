"""Changes of the attribute rgb; clouds without it pass unchanged."""

from dataclasses import dataclass

import numpy as np

from sparseconv.io.point_cloud import PointCloud


def _recoloured(cloud: PointCloud, unit: np.ndarray) -> PointCloud:
    old = cloud.attributes["rgb"]
    top = np.iinfo(old.dtype).max
    return cloud.with_attributes(rgb=np.rint(unit.clip(0, 1) * top).astype(old.dtype))


def _unit(cloud: PointCloud) -> np.ndarray:
    rgb = cloud.attributes["rgb"]
    return rgb / np.iinfo(rgb.dtype).max


@dataclass(frozen=True)
class Tint:
    """Change brightness, contrast and the balance of the channels.

    Args:
        strength: 0 changes nothing; 0.2 is a visible change.
    """

    strength: float = 0.2

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the recoloured cloud."""
        if "rgb" not in cloud.attributes:
            return cloud
        gain = 1 + self.strength * rng.uniform(-1, 1, 3)
        contrast, shift = (
            1 + self.strength * rng.uniform(-1, 1),
            self.strength * rng.uniform(-0.5, 0.5),
        )
        return _recoloured(cloud, (_unit(cloud) - 0.5) * contrast * gain + 0.5 + shift)


@dataclass(frozen=True)
class ColourNoise:
    """Add normal noise to every channel of every point.

    Args:
        sigma: standard deviation, where the full scale is 1.
    """

    sigma: float = 0.02

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the noisy cloud."""
        if "rgb" not in cloud.attributes:
            return cloud
        unit = _unit(cloud)
        return _recoloured(cloud, unit + rng.normal(0, self.sigma, unit.shape))


@dataclass(frozen=True)
class DropColour:
    """Paint the whole cloud one grey with a probability, so that shape must suffice.

    Args:
        probability: 0 to 1.
    """

    probability: float = 0.2

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the grey or the given cloud."""
        if "rgb" not in cloud.attributes or rng.random() >= self.probability:
            return cloud
        return _recoloured(cloud, np.full((len(cloud), 3), rng.uniform(0.2, 0.8)))
