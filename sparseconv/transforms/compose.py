"""Chain transforms; each is a value, called with a cloud and a random generator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sparseconv._errors import complain
from sparseconv.io.point_cloud import PointCloud


class Transform(Protocol):
    """A function from cloud to cloud whose randomness comes from `rng` alone."""

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the changed cloud; the given one stays as it is."""


@dataclass(frozen=True)
class Compose:
    """Apply transforms in order.

    Args:
        steps: the transforms.

    Raises:
        TypeError: a step cannot be called.

    Example:
        >>> from sparseconv.transforms.rigid import Scale
        >>> twice = Compose([Scale(2.0, 2.0), Scale(2.0, 2.0)])
        >>> twice(PointCloud([[1.0, 0.0, 0.0]]), np.random.default_rng(0)).xyz
        array([[4., 0., 0.]])
    """

    steps: Sequence[Transform]

    def __post_init__(self):
        for row, step in enumerate(self.steps):
            if not callable(step):
                raise TypeError(complain(f"steps[{row}]", "a transform", type(step).__name__))

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the cloud after every step."""
        for step in self.steps:
            cloud = step(cloud, rng)
        return cloud


@dataclass(frozen=True)
class Sometimes:
    """Apply a transform with a probability.

    Args:
        step: the transform.
        probability: 0 to 1.
    """

    step: Transform
    probability: float = 0.5

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise ValueError(complain("probability", "0 to 1", self.probability))

    def __call__(self, cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
        """Return the changed cloud, or the given one."""
        return self.step(cloud, rng) if rng.random() < self.probability else cloud
