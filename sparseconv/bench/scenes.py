"""The point clouds the benchmark runs on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.bench.sized import VOXEL_SIZES, parse_size, sized_points
from sparseconv.io.registry import read
from sparseconv.transforms.voxelize import voxelize

# every lattice in a five-level U-Net then begins at a whole site, as it does for other libraries
ALIGNMENT = 32

REAL = {
    "semantickitti": ("semantickitti/sequences/00/velodyne/000000.bin", 0.05),
    "fragment": ("open3d/fragment.pcd", 0.02),
}


@dataclass(frozen=True, eq=False)
class Scene:
    """One scan, and the sites of its voxels.

    Attributes:
        name: as shown in the table.
        voxel_size: metres.
        xyz: float64 [N points, 3], metres, finite.
        coords: int32 [N, 4], unique, in Z-order, not negative.
    """

    name: str
    voxel_size: float
    xyz: np.ndarray  # [N points, 3]
    coords: Tensor  # [N, 4] int32

    @classmethod
    def of(cls, name: str, xyz: np.ndarray, voxel_size: float) -> Scene:
        """Voxelise points and move the sites to where every library takes them: from 0 upwards."""
        xyz = np.ascontiguousarray(xyz[np.isfinite(xyz).all(1)], dtype=np.float64)
        if not len(xyz):
            raise ValueError(complain(f"scene {name}", "at least one finite point", "none"))
        low = np.floor(xyz.min(0) / voxel_size)
        xyz = xyz - np.floor(low / ALIGNMENT) * ALIGNMENT * voxel_size
        sites, _ = voxelize(xyz, voxel_size)
        return cls(name, voxel_size, xyz, sites.coords)

    @property
    def extent(self) -> list[int]:
        """Lattice that holds every site, voxels, divisible at every level of a U-Net."""
        high = self.coords[:, 1:].amax(0).tolist()
        return [(v // ALIGNMENT + 1) * ALIGNMENT for v in high]


def _sheet() -> Scene:
    """A wavy surface of several hundred voxels, for a quick look."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1.2, (2, 8_000))
    z = 0.3 + 0.2 * np.sin(3 * x) * np.cos(2 * y) + rng.normal(0, 0.004, len(x))
    return Scene.of("sheet", np.stack([x, y, z], 1), 0.05)


def _room() -> Scene:
    from sparseconv.datasets.procedural.room import generate_room

    return Scene.of("room", generate_room(0, cameras=6, spacing=0.01, pose=False).xyz, 0.02)


def _street() -> Scene:
    from sparseconv.datasets.procedural.street import generate_street

    return Scene.of("street", generate_street(0, beams=64).xyz, 0.05)


def _few() -> Scene:
    """Some hundred voxels of the sheet, for what a call costs whatever its size."""
    sheet = _sheet()
    return Scene.of("few", sheet.xyz[(sheet.xyz[:, :2] < 0.42).all(1)], 0.05)


MADE: dict[str, Callable[[], Scene]] = {
    "street": _street,
    "room": _room,
    "sheet": _sheet,
    "few": _few,
}


def real_data() -> Path | None:
    """Return the folder of real scans, from the environment variable `SPARSECONV_REALDATA`."""
    folder = os.environ.get("SPARSECONV_REALDATA")
    return Path(folder) if folder else None


def usual_scenes() -> list[str]:
    """Return the scenes of a run that names none: the made ones and the real scans at hand."""
    folder = real_data()
    here = (
        [] if folder is None else [n for n, (path, _) in REAL.items() if (folder / path).exists()]
    )
    return ["street", "room", *here]


def load_scene(name: str) -> Scene:
    """Make or read a scene.

    Args:
        name: of `MADE` or `REAL`, or `street-` or `room-` and a number of voxels: `street-200k`.

    Raises:
        ValueError: no such scene, or a real one while `SPARSECONV_REALDATA` is not set.
        FileNotFoundError: the real scan is not in that folder.
    """
    if name in MADE:
        return MADE[name]()
    size = parse_size(name)
    if size is not None:
        return Scene.of(name, sized_points(*size), VOXEL_SIZES[size[0]])
    if name not in REAL:
        known = f"names among {', '.join([*MADE, *REAL])}, or such as street-200k, room-1M"
        raise ValueError(complain("--scenes", known, name))
    folder = real_data()
    if folder is None:
        raise ValueError(
            complain(
                f"scene {name}",
                "the environment variable SPARSECONV_REALDATA",
                "none",
                "set it to the folder of real scans, or pass --scan FILE --voxel M",
            )
        )
    path, voxel_size = REAL[name]
    return load_scan(folder / path, voxel_size, name)


def load_scan(path: str | Path, voxel_size: float, name: str | None = None) -> Scene:
    """Read any scan file.

    Args:
        path: a file that `sparseconv.io` reads.
        voxel_size: metres.
        name: as shown in the table; None for the file's name.
    """
    return Scene.of(name or Path(path).stem, read(path).xyz, voxel_size)


def shuffled(coords: Tensor) -> Tensor:
    """Return the rows in one fixed random order."""
    order = torch.randperm(len(coords), generator=torch.Generator().manual_seed(0))
    return coords[order].contiguous()
