"""Everything around the weights that a trained network needs to be used again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from sparseconv._errors import complain
from sparseconv.datasets.labels import ROOMS, STREETS, LabelTable

GRAVITIES = ("any", "z")


@dataclass(frozen=True, eq=False)
class ClassTable:
    """Names and display colours of the classes 0, 1, ... of a network.

    Args:
        names: n of them.
        colours: uint8 [n, 3].
    """

    names: tuple[str, ...]
    colours: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Augmentation:
    """How far a training scene is changed at random; every range is drawn from uniformly.

    Args:
        scale: smallest and largest factor on all lengths.
        tilt: largest angle between the true and the changed vertical, radians.
        jitter: largest standard deviation of noise on every coordinate, metres.
        keep: smallest share of points that random thinning leaves.
        crop: chance of cutting a random box out of the scene, 0 to 1.
        box: smallest and largest horizontal edge of that box, metres.
        reach: points farther than this from the vertical through the origin are left out, metres;
            None keeps all.
        beams: chance of leaving out every second scan line, 0 to 1.
    """

    scale: tuple[float, float] = (0.9, 1.1)
    tilt: float = 0.06
    jitter: float = 0.006
    keep: float = 0.3
    crop: float = 0.3
    box: tuple[float, float] = (1.5, 4.0)
    reach: float | None = None
    beams: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """What turns a scan into the input of one network, and its output into classes.

    Plain data (`to_plain`), so that it lives inside the checkpoint beside the weights.

    Args:
        name: of the recipe.
        voxel: edge of a voxel, metres.
        classes: names, in the order of the logits.
        colours: (red, green, blue) in 0..255 per class.
        gravity: `"any"` when scans come in any pose and up must be found, `"z"` when z is up.
        scales: voxels per cell of the lattices on which the shape of the surface is measured.
        heights: for each height feature, how much the ground may rise (0: it is level; see
            `sparseconv.tasks.ground`) and the metres that count as one unit.
        range_unit: metres that count as one unit of distance to the sensor at the origin; None
            where scans have no such point.
        channels: of the network, see `MinkUNet`.
        blocks: residual blocks of each level.
        conv: short name of the family that convolves in the blocks, see `MinkUNet`; None for the
            plain 3x3x3 submanifold one.
        augmentation: how training scenes are changed.
        rate: largest learning rate.

    Raises:
        ValueError: a value makes no sense.
    """

    name: str
    voxel: float
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    gravity: str = "z"
    scales: tuple[int, ...] = (1, 4)
    heights: tuple[tuple[float, float], ...] = ((0.0, 0.5), (0.0, 2.5))
    range_unit: float | None = None
    channels: tuple[int, ...] = (16, 24, 32, 48, 64, 48, 32, 24, 24)
    blocks: int = 1
    conv: str | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    rate: float = 4e-3

    def __post_init__(self) -> None:
        if not 0 < self.voxel < float("inf"):
            raise ValueError(complain("voxel", "metres above 0", repr(self.voxel)))
        if self.gravity not in GRAVITIES:
            raise ValueError(
                complain("gravity", f"one of {', '.join(GRAVITIES)}", repr(self.gravity))
            )
        if not self.classes or len(self.classes) != len(self.colours):
            found = f"{len(self.classes)} and {len(self.colours)}"
            raise ValueError(complain("classes", "a name and a colour each", found))

    @property
    def in_channels(self) -> int:
        """Features of a voxel; see `sparseconv.tasks.inputs`."""
        return 4 + 5 * len(self.scales) + len(self.heights) + (self.range_unit is not None)

    @property
    def table(self) -> ClassTable:
        """Names and colours of the classes."""
        return ClassTable(self.classes, np.array(self.colours, dtype=np.uint8).reshape(-1, 3))

    def to_plain(self) -> dict[str, Any]:
        """Return numbers, strings, lists and dicts alone."""
        return _plain(asdict(self))

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_plain` gave `data` for.

        Raises:
            ValueError: a field is missing or unknown.
        """
        data = {name: _tuples(value) for name, value in data.items()}
        known = {each.name for each in fields(cls)}
        needed = {"name", "voxel", "classes", "colours"}
        if not needed <= set(data) <= known:
            wrong = sorted((needed - set(data)) | (set(data) - known))
            cure = "it was written by another version of sparseconv; train again"
            raise ValueError(complain("recipe", f"fields {sorted(known)}", f"{wrong}", cure))
        if "augmentation" in data:
            data["augmentation"] = Augmentation(**data["augmentation"])
        return cls(**data)


def rooms(voxel: float | None = None) -> Recipe:
    """Return the recipe of indoor scans, in any pose."""
    return Recipe("rooms", voxel or 0.05, ROOMS.names, ROOMS.palette, gravity="any", scales=(1, 4))


def streets(voxel: float | None = None) -> Recipe:
    """Return the recipe of street scans by a spinning LiDAR, z up, the sensor at the origin."""
    return Recipe(
        "streets",
        voxel or 0.15,
        STREETS.names,
        STREETS.palette,
        scales=(1, 4),
        heights=((0.2, 0.5), (0.2, 5.0), (0.01, 0.5)),
        range_unit=50.0,
        augmentation=Augmentation(
            scale=(0.95, 1.05),
            tilt=0.02,
            jitter=0.02,
            keep=0.5,
            crop=0.0,
            reach=50.0,
            beams=0.25,
        ),
    )


def for_folder(table: LabelTable, extent: float, voxel: float | None = None) -> Recipe:
    """Return a recipe for labelled scans with z up: indoor or outdoor by their size.

    Args:
        table: the classes.
        extent: typical horizontal extent of a scan, metres.
        voxel: edge of a voxel, metres; None chooses one.
    """
    base = streets(voxel) if extent > 30 else rooms(voxel)
    return replace(
        base,
        name="folder",
        classes=tuple(table.names),
        colours=tuple(table.palette),
        gravity="z",
        range_unit=None,
        augmentation=replace(base.augmentation, reach=None, beams=0.0),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _tuples(each) for name, each in value.items()}
    return tuple(_tuples(each) for each in value) if isinstance(value, (list, tuple)) else value
