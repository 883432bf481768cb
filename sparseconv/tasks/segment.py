"""Give every point of a scan a class."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sparseconv.functional.interpolate import interpolate
from sparseconv.io.point_cloud import PointCloud
from sparseconv.tasks.checkpoint import load_checkpoint
from sparseconv.tasks.choose import metres_per_unit
from sparseconv.tasks.inputs import network_input, point_columns
from sparseconv.tasks.recipe import ClassTable, Recipe
from sparseconv.tasks.tiles import LARGEST_TILE, tiles
from sparseconv.tasks.upright import find_up, to_upright, up_axis

NO_LABEL = -1
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The classes of a scan.

    Args:
        label: class of each point, int32 [N]; -1 for points with a NaN or infinite coordinate.
        confidence: probability of that class, float32 [N]; 0 where the label is -1.
        classes: names and colours.
        up: unit vector that was taken for up, in the scan's own axes, float64 [3].
        timings: seconds by stage.
        peak_memory: most memory the process has held so far, bytes; 0 where the system does not
            tell.
        voxels: how many the network saw.
        notes: what was chosen or left out, and why.
    """

    label: np.ndarray
    confidence: np.ndarray
    classes: ClassTable
    up: np.ndarray
    timings: dict[str, float]
    peak_memory: int
    voxels: int
    notes: list[str]


def segment(
    cloud: PointCloud,
    model: str | Path,
    *,
    up: str = "auto",
    largest_tile: int = LARGEST_TILE,
    progress: Progress | None = None,
) -> Segmentation:
    """Label every point of a scan.

    A scan of more than `largest_tile` voxels is cut into tiles with a margin, so that memory stays
    bounded: about 2 kB a voxel of a tile, 200 bytes a point of the scan.

    Args:
        cloud: in metres, or in feet where `cloud.meta["unit"]` says so.
        model: `"rooms"`, `"streets"`, or the path of a checkpoint.
        up: the axis that points up (`"x"`, `"-x"`, ... `"-z"`), or `"auto"`.
        largest_tile: most voxels that go through the network at once, margins not counted.
        progress: called with (stage, done, total).

    Returns:
        Label and confidence of every point, in order.

    Raises:
        FileNotFoundError, ValueError: `model` or `up` is not one of the above.
    """
    clock = _Clock()
    with clock("load model"):
        network, recipe, _ = load_checkpoint(model)
    finite = np.isfinite(cloud.xyz).all(1)
    notes: list[str] = []
    if not finite.all():
        lost = len(finite) - int(finite.sum())
        notes.append(f"{lost} points with NaN or infinite coordinates have label -1")
    xyz = cloud.xyz[finite] * metres_per_unit(cloud)
    if metres_per_unit(cloud) != 1:
        notes.append(f"coordinates are in {cloud.meta['unit']}, converted to metres")
    with clock("find up"):
        direction, reason = _direction(xyz, up, recipe)
        notes.append(reason)
        xyz = to_upright(xyz, direction)
        if recipe.range_unit is not None:
            xyz = _around_sensor(xyz, notes)
    label = np.full(len(cloud), NO_LABEL, dtype=np.int32)
    confidence = np.zeros(len(cloud), dtype=np.float32)
    found, sure, voxels = _classify(xyz, network, recipe, largest_tile, clock, progress)
    label[finite], confidence[finite] = found, sure
    return Segmentation(
        label,
        confidence,
        recipe.table,
        direction,
        dict(clock.seconds),
        peak_memory(),
        voxels,
        notes,
    )


def _direction(xyz: np.ndarray, up: str, recipe: Recipe) -> tuple[np.ndarray, str]:
    if up != "auto":
        return up_axis(up), f"up is {up}, as given"
    if recipe.gravity == "z":
        return up_axis("z"), f"up is z, as in all scans of the model {recipe.name}"
    return find_up(xyz)


def _around_sensor(xyz: np.ndarray, notes: list[str]) -> np.ndarray:
    """Move the scan so that its sensor, or where it has none its middle, is at the origin."""
    if len(xyz) == 0:
        return xyz
    low, middle, high = np.percentile(xyz[:, :2], [5, 50, 95], axis=0)
    if ((low < 0) & (high > 0)).all():
        return xyz
    notes.append("the origin is not inside the scan: distances are taken from its middle")
    return xyz - np.array([*middle, 0.0])


def _classify(
    xyz: np.ndarray,  # [N, 3]
    network: nn.Module,
    recipe: Recipe,
    largest_tile: int,
    clock: _Clock,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray, int]:
    label = np.full(len(xyz), NO_LABEL, dtype=np.int32)
    confidence = np.zeros(len(xyz), dtype=np.float32)
    voxels, done = 0, 0
    with clock("features"):
        columns = point_columns(xyz, recipe)
        pieces = tiles(xyz, recipe.voxel, largest_tile)
    for rows, core in pieces:
        with clock("features"):
            x, _, places = network_input([xyz[rows]], [columns[rows]], recipe)
        with clock("network"), torch.inference_mode():
            logits = network(x)
        with clock("labels"), torch.inference_mode():
            share = logits.replace(features=logits.features.softmax(1))
            best, kind = _read(share, places[torch.from_numpy(core)])
            label[rows[core]], confidence[rows[core]] = kind, best
        voxels += len(x)
        done += int(core.sum())
        if progress is not None:
            progress("segment", done, len(xyz))
    return label, confidence, voxels


def _read(share, places: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return confidence and class of points between voxels: trilinear, over the occupied ones."""
    best, kind = interpolate(share, places, normalize=True).max(1)
    return best.numpy(), kind.to(torch.int32).numpy()


class _Clock:
    """Adds up seconds by stage: `with clock("stage"): ...`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.stage, self.started = "", 0.0

    def __call__(self, stage: str) -> _Clock:
        self.stage = stage
        return self

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        passed = time.perf_counter() - self.started
        self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + passed


def peak_memory() -> int:
    """Return the most memory this process has held, bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
