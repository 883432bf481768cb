"""Where labelled scenes for training, validation and reports come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sparseconv.datasets.base import load
from sparseconv.datasets.folder import Folder
from sparseconv.datasets.labels import LabelTable
from sparseconv.io.point_cloud import PointCloud
from sparseconv.tasks import recipe as recipes
from sparseconv.tasks.recipe import Recipe

PROCEDURAL = ("rooms", "streets")
TRAINING_SCENES = 400
VALIDATION_SCENES = 8
# labels that mean none in most files
NONE = (-1, 255)


class Scenes:
    """Labelled scenes: training scenes in an order that is new each time round, and validation.

    Training scenes are kept in memory once made, as float32.

    Args:
        recipe: of the network they train.
        training: clouds with the attribute `label`, classes of the recipe.
        validation: others.
    """

    def __init__(
        self, recipe: Recipe, training: Sequence[PointCloud], validation: Sequence[PointCloud]
    ) -> None:
        self.recipe, self.training, self.validation = recipe, training, validation
        self.kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def draw(self, number: int, seed: int) -> PointCloud:
        """Return the training scene that comes at place `number`, its finite points.

        Args:
            number: 0, 1, ...
            seed: of the order.
        """
        turn, place = divmod(number, len(self.training))
        row = int(np.random.default_rng([seed, turn, 7]).permutation(len(self.training))[place])
        if row not in self.kept:
            scan = self.training[row]
            finite = np.isfinite(scan.xyz).all(1)
            xyz = scan.xyz[finite]
            # float32 of coordinates near the origin is exact enough for any scan
            centre = np.zeros(3) if np.abs(xyz).max(initial=0) < 1e4 else np.floor(xyz.mean(0))
            label = scan.attributes["label"][finite].astype(np.int16)
            self.kept[row] = ((xyz - centre).astype(np.float32), label)
        xyz, label = self.kept[row]
        return PointCloud(xyz.astype(np.float64), {"label": label})


def open_scenes(dataset: str | Path, voxel: float | None = None, seed: int = 0) -> Scenes:
    """Return the scenes of `"rooms"`, `"streets"`, or a folder of labelled scans.

    The scans of a folder must have z up; see `sparseconv.datasets.folder` for labels, names and
    splits.

    Args:
        dataset: a name or a folder.
        voxel: edge of a voxel, metres; None for the recipe's.
        seed: procedural scenes of another seed are other scenes.

    Raises:
        FileNotFoundError, ValueError: the folder holds no labelled scan.
    """
    if str(dataset) in PROCEDURAL:
        validation = load(str(dataset), split="val", length=VALIDATION_SCENES)
        # far above the seeds of validation and test, which are never trained on
        training = type(validation)(TRAINING_SCENES, seed=10 + seed)
        return Scenes(getattr(recipes, str(dataset))(voxel), training, validation)
    every, training, validation = (Folder(dataset, split) for split in ("all", "train", "val"))
    table, ids = _classes(every)
    for part in (every, training, validation):
        part.labels, part.ids = table, ids
    recipe = recipes.for_folder(table, _extent(every), voxel)
    return Scenes(recipe, training, validation)


def held_out(dataset: str, scenes: int) -> Sequence[PointCloud]:
    """Return procedural scenes that no training run draws and none is chosen by."""
    return load(dataset, split="test", length=scenes)


def _classes(folder: Folder) -> tuple[LabelTable, dict[int, int]]:
    """Return the folder's class table without the labels that mean none."""
    numbered = all(
        name == f"class {raw}"
        for raw, name in zip(sorted(folder.ids), folder.labels.names, strict=False)
    )
    if not numbered:
        return folder.labels, folder.ids
    found = sorted(raw for raw in folder.ids if raw not in NONE)
    palette = tuple(folder.labels.palette[row] for row in range(len(found)))
    names = tuple(f"class {raw}" for raw in found)
    return LabelTable(folder.labels.name, names, palette), {raw: i for i, raw in enumerate(found)}


def _extent(folder: Folder) -> float:
    """Return the typical horizontal extent of a few scans, metres."""
    extents = []
    for row in range(0, len(folder), max(1, len(folder) // 5)):
        xyz = folder[row].xyz
        xyz = xyz[np.isfinite(xyz).all(1)]
        if len(xyz):
            extents.append(np.ptp(np.percentile(xyz[:, :2], [2, 98], axis=0), axis=0).max())
    return float(np.median(extents)) if extents else 0.0
