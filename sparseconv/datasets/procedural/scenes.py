"""Scenes made by rule, as a map-style dataset."""

from collections.abc import Callable
from typing import ClassVar

from sparseconv._errors import complain
from sparseconv.datasets.labels import LabelTable
from sparseconv.io.point_cloud import PointCloud

# scenes of one dataset have seeds in one block, so datasets of different seeds never meet
BLOCK = 1_000_000
SPLITS = {"train": 0, "val": 1, "test": 2}


class ProceduralScenes:
    """Scenes that are made when they are asked for; subclasses name the generator.

    Args:
        length: number of scenes.
        seed: of the dataset; different seeds share no scene.
        options: further arguments of the generator.

    Raises:
        ValueError: `length` is out of range.
    """

    labels: ClassVar[LabelTable]
    generate: ClassVar[Callable[..., PointCloud]]

    def __init__(self, length: int, seed: int = 0, **options):
        if not 0 < length <= BLOCK:
            raise ValueError(complain("length", f"1 to {BLOCK}", length))
        self.length, self.seed, self.options = length, seed, options

    @classmethod
    def of_split(cls, split: str, *, length: int = 1000, **options) -> "ProceduralScenes":
        """Return the scenes of a split.

        Raises:
            ValueError: the split is not train, val or test.
        """
        if split not in SPLITS:
            raise ValueError(complain("split", f"one of {', '.join(SPLITS)}", repr(split)))
        return cls(length, SPLITS[split], **options)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> PointCloud:
        if not -self.length <= item < self.length:
            raise IndexError(complain("item", f"-{self.length} to {self.length - 1}", item))
        seed = self.seed * BLOCK + item % self.length
        return type(self).generate(seed, **self.options)
