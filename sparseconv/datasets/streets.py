"""Procedural LiDAR street scans as a dataset; nothing to download."""

from pathlib import Path

from sparseconv.datasets.labels import STREETS
from sparseconv.datasets.procedural.scenes import ProceduralScenes
from sparseconv.datasets.procedural.street import generate_street


class Streets(ProceduralScenes):
    """Scenes of `generate_street`; see `ProceduralScenes`.

    Example:
        >>> len(Streets(4, seed=7)), Streets(4, seed=7).labels.names[0]
        (4, 'road')
    """

    labels = STREETS
    generate = staticmethod(generate_street)


def load(root: str | Path | None = None, split: str = "train", **options) -> Streets:
    """Return the procedural streets of a split ("train", "val", "test"); `root` is not used.

    Raises:
        ValueError: the split is unknown.
    """
    return Streets.of_split(split, **options)
