"""Procedural room fragments as a dataset; nothing to download."""

from pathlib import Path

from sparseconv.datasets.labels import ROOMS
from sparseconv.datasets.procedural.room import generate_room
from sparseconv.datasets.procedural.scenes import ProceduralScenes


class Rooms(ProceduralScenes):
    """Scenes of `generate_room`; see `ProceduralScenes`.

    Example:
        >>> len(Rooms(4, seed=7)), Rooms(4, seed=7).labels.names[1]
        (4, 'wall')
    """

    labels = ROOMS
    generate = staticmethod(generate_room)


def load(root: str | Path | None = None, split: str = "train", **options) -> Rooms:
    """Return the procedural rooms of a split ("train", "val", "test"); `root` is not used.

    Raises:
        ValueError: the split is unknown.
    """
    return Rooms.of_split(split, **options)
