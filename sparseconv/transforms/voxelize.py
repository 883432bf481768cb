"""Points in metres to a sparse tensor of voxels, and the map back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.io.point_cloud import PointCloud
from sparseconv.ops.aggregate import aggregate
from sparseconv.ops.coords import unique_coords
from sparseconv.ops.pool import pool_max
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.topology import ROOT, Level, Topology

REDUCTIONS = ("mean", "sum", "max", "first", "last")


def voxelize(
    clouds: PointCloud | np.ndarray | Tensor | Sequence[PointCloud | np.ndarray | Tensor],
    voxel_size: float | Sequence[float],
    *,
    features: Sequence[str] | np.ndarray | Tensor | None = None,
    reduce: str = "mean",
    origin: Sequence[float] | None = None,
) -> tuple[SparseTensor, Tensor]:
    """Put points into voxels: `site = floor((xyz - origin) / voxel_size)`, in float64.

    Args:
        clouds: a point cloud or points [N, 3] in metres; several make a batch.
        voxel_size: edge in metres, one number or three. Above 0.
        features: names to put side by side: `"one"` (a constant 1), `"xyz"` (metres from
            `origin`), `"offset"` (voxels from the voxel's centre), or an attribute of the cloud
            (colours as 0 to 1); or numbers [N, C], a row per point of all clouds. None for
            `"one"` and, where every cloud has them, `"rgb"` and `"intensity"`.
        reduce: what a voxel makes of its points: `"mean"`, `"sum"`, `"max"`, `"first"`, `"last"`.
        origin: corner of voxel (0, 0, 0) in metres; None for (0, 0, 0). Give one near the data
            for coordinates so large that a voxel number would not fit int32.

    Returns:
        The sparse tensor, sites in Z-order; and the voxel row of each point, int64
        [N], -1 for points dropped because a coordinate is NaN or infinite.

    Raises:
        TypeError: `clouds` is none of the above.
        ValueError: a bad voxel size, an unknown attribute, or voxel numbers beyond int32.

    Example:
        >>> import numpy as np
        >>> x, to_voxel = voxelize(np.array([[0.01, 0, 0], [0.02, 0, 0], [0.07, 0, 0]]), 0.05)
        >>> x.coords.tolist(), to_voxel.tolist()
        ([[0, 0, 0, 0], [0, 1, 0, 0]], [0, 0, 1])
    """
    many = isinstance(clouds, (list, tuple))
    scans = [_as_cloud(cloud) for cloud in (clouds if many else [clouds])]
    edge = np.broadcast_to(np.asarray(voxel_size, dtype=np.float64), (3,))
    if not np.all(np.isfinite(edge)) or edge.min() <= 0:
        raise ValueError(complain("voxel_size", "metres above 0", repr(voxel_size)))
    if reduce not in REDUCTIONS:
        raise ValueError(complain("reduce", f"one of {', '.join(REDUCTIONS)}", repr(reduce)))
    corner = np.zeros(3) if origin is None else np.asarray(origin, dtype=np.float64)
    sizes = [len(scan) for scan in scans]
    xyz = np.concatenate([np.asarray(scan.xyz, dtype=np.float64) for scan in scans])
    places = xyz - corner if corner.any() else xyz
    places = places / edge
    item = np.repeat(np.arange(len(scans), dtype=np.int32), sizes) if many else 0
    kept = None
    # a sum is finite where all its terms are, and much sooner made than a mask
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(places.sum())
    if not finite:
        kept = np.isfinite(places).all(1)
        places, xyz = places[kept], xyz[kept]
        item = item[kept] if many else 0
    sites = np.floor(places)
    _check_range(sites, edge)
    coords = np.empty((len(sites), 4), dtype=np.int32)
    coords[:, 0], coords[:, 1:] = item, sites
    made = {
        "one": lambda: np.ones((len(sites), 1)),
        "xyz": lambda: xyz - corner,
        "offset": lambda: places - sites - 0.5,
    }
    columns = _columns(scans, features, kept, made)
    unique, inverse, counts, first = unique_coords(torch.from_numpy(coords))
    reduced = _reduce(columns, inverse, counts, first, reduce)
    to_voxel = inverse
    if kept is not None:
        to_voxel = torch.full((len(kept),), -1, dtype=torch.int64)
        to_voxel[torch.from_numpy(kept)] = inverse
    level = Level(unique, (1, 1, 1), None, len(scans))
    return SparseTensor.at(Topology.of(level), ROOT, reduced), to_voxel


def _as_cloud(cloud: PointCloud | np.ndarray | Tensor) -> PointCloud:
    if isinstance(cloud, PointCloud):
        return cloud
    if isinstance(cloud, (np.ndarray, Tensor)) and cloud.ndim == 2 and cloud.shape[1] == 3:
        return PointCloud(np.asarray(cloud, dtype=np.float64))
    found = f"shape {list(cloud.shape)}" if hasattr(cloud, "shape") else type(cloud).__name__
    raise TypeError(complain("clouds", "a PointCloud or points [N, 3], or a list of them", found))


def _check_range(sites: np.ndarray, edge: np.ndarray) -> None:
    limit = np.iinfo(np.int32)
    if len(sites) and (sites.min() < limit.min or sites.max() > limit.max):
        raise ValueError(
            complain(
                "origin",
                "voxel numbers within int32",
                f"{sites.min():.0f} to {sites.max():.0f} at voxels of {edge.min():g} m",
                "pass origin=cloud.xyz.min(0), or larger voxels",
            )
        )


def _columns(
    scans: list[PointCloud],
    features: Sequence[str] | np.ndarray | Tensor | None,
    kept: np.ndarray | None,
    made: dict[str, Callable[[], np.ndarray]],
) -> Tensor:
    points = sum(len(scan) for scan in scans)
    if isinstance(features, (np.ndarray, Tensor)):
        given = torch.as_tensor(features)
        if given.ndim != 2 or given.shape[0] != points:
            raise ValueError(
                complain("features", f"numbers [{points}, C]", f"shape {list(given.shape)}")
            )
        given = given if given.is_floating_point() else given.float()
        return given if kept is None else given[torch.from_numpy(kept)]
    if features is None:
        usual = [n for n in ("rgb", "intensity") if all(n in s.attributes for s in scans)]
        features = ["one", *usual]
    parts = []
    for name in [features] if isinstance(features, str) else features:
        if name in made:
            parts.append(made[name]())
            continue
        for scan in scans:
            if name not in scan.attributes:
                known = ", ".join([*made, *scan.attributes])
                raise ValueError(complain("features", f"names among {known}", repr(name)))
        values = np.concatenate([_numbers(name, scan) for scan in scans])
        values = values.reshape(points, -1)
        parts.append(values if kept is None else values[kept])
    return torch.from_numpy(np.concatenate(parts, 1).astype(np.float32))


def _numbers(name: str, scan: PointCloud) -> np.ndarray:
    return scan.unit_rgb() if name == "rgb" else scan.attributes[name].astype(np.float64)


def _reduce(columns: Tensor, inverse: Tensor, counts: Tensor, first: Tensor, how: str) -> Tensor:
    count = counts.shape[0]
    if how == "first":
        return columns[first]
    rows = torch.arange(columns.shape[0], dtype=torch.int32)
    if how == "last":
        last = torch.zeros(count, dtype=torch.int64)
        last = last.scatter_reduce(0, inverse, rows.long(), "amax", include_self=False)
        return columns[last]
    if how == "max":
        return pool_max(columns, rows, inverse.to(torch.int32), count)[0]
    total = aggregate(columns, rows, inverse.to(torch.int32), None, count)
    return total if how == "sum" else total / counts[:, None].to(total.dtype)
