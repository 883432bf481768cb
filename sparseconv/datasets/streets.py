"""Procedural LiDAR street scans as a dataset; nothing to download."""

from pathlib import Path

from sparseconv._errors import complain
from sparseconv.datasets.labels import STREETS, LabelTable
from sparseconv.datasets.procedural.street import generate_street
from sparseconv.io.point_cloud import PointCloud

# scenes of one dataset have seeds in one block, so datasets of different seeds never meet
BLOCK = 1_000_000
SPLITS = {"train": 0, "val": 1, "test": 2}


class Streets:
    """Map-style dataset of `generate_street`: item i is made when it is asked for.

    Args:
        length: number of scenes.
        seed: of the dataset; different seeds share no scene.
        options: further arguments of `generate_street`.

    Example:
        >>> len(Streets(4, seed=7)), Streets(4, seed=7).labels.names[0]
        (4, 'road')
    """

    labels: LabelTable = STREETS

    def __init__(self, length: int, seed: int = 0, **options):
        if not 0 < length <= BLOCK:
            raise ValueError(complain("length", f"1 to {BLOCK}", length))
        self.length, self.seed, self.options = length, seed, options

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> PointCloud:
        if not -self.length <= item < self.length:
            raise IndexError(complain("item", f"-{self.length} to {self.length - 1}", item))
        return generate_street(self.seed * BLOCK + item % self.length, **self.options)


def load(root: str | Path | None = None, split: str = "train", *, length: int = 1000, **options):
    """Return the procedural streets of a split; `root` is not used.

    Raises:
        ValueError: the split is not train, val or test.
    """
    if split not in SPLITS:
        raise ValueError(complain("split", f"one of {', '.join(SPLITS)}", repr(split)))
    return Streets(length, SPLITS[split], **options)
