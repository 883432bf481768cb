"""Raw float32 rows: KITTI (x y z intensity) and nuScenes (x y z intensity ring), with labels."""

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sparseconv._errors import complain
from sparseconv.io.atomic import replacing
from sparseconv.io.columns import holds
from sparseconv.io.errors import malformed
from sparseconv.io.point_cloud import PointCloud

_NAMES = ("x", "y", "z", "intensity", "ring")
_CURE = "write .ply, .pcd, .las or .npz, which keep every attribute"


def read(path: str | os.PathLike, *, columns: int | None = None) -> PointCloud:
    """Read a headerless scan.

    Such a file does not say how long its rows are. A name ending in `.pcd.bin` means five values,
    as in nuScenes; else size and values must leave one reading: four, or five with whole laser
    numbers last. Intensities below zero speak against a reading.

    Args:
        path: the file.
        columns: values per row; needed where the file is ambiguous or has other rows.

    Returns:
        The points; `intensity`, then `ring`, then `column_5`, ... are float32 attributes.

    Raises:
        FileFormatError: the size fits no row, the values fit none, or both readings are possible.
    """
    size = os.path.getsize(path)
    if columns is None:
        columns = _columns(path, size)
    if columns < 3 or size % (4 * columns):
        wanted = f"rows of {columns} float32 values, {4 * columns} bytes each"
        raise malformed(path, wanted, f"{size} bytes", "give the true number as columns=")
    table = np.fromfile(path, "<f4").reshape(-1, columns)
    if not _plausible(table):
        wanted = f"float32 coordinates within 10,000 km in rows of {columns}"
        raise malformed(path, wanted, "others", "check that the file is a scan, or give columns=")
    attributes = {}
    for at in range(3, columns):
        name = _NAMES[at] if at < len(_NAMES) else f"column_{at}"
        attributes[name] = np.ascontiguousarray(table[:, at], np.float32)
    return PointCloud(table[:, :3], attributes, {"xyz_dtype": "float32"})


def write(file: BinaryIO, path: str | os.PathLike, cloud: PointCloud) -> None:
    """Write x y z intensity (and ring) as float32 rows.

    Args:
        file: open for writing.
        path: its name, for errors.
        cloud: what to write; it must have `intensity`, may have `ring`, and nothing else.

    Raises:
        ValueError: float32 cannot hold a value, the cloud is empty, or an attribute does not fit.
    """
    check(path, list(cloud.attributes))
    if not len(cloud):
        found = "none"
        raise ValueError(complain("cloud", "at least one point for .bin", found, "write .ply"))
    parts = {"xyz": cloud.xyz, **cloud.attributes}
    table = []
    for name in ("xyz", "intensity", "ring"):
        if name not in parts:
            continue
        with np.errstate(over="ignore"):
            single = parts[name].astype("<f4")
        if not np.array_equal(single.astype(parts[name].dtype), parts[name], equal_nan=True):
            wanted = "values that float32 holds exactly"
            raise ValueError(complain(name, wanted, f"finer {parts[name].dtype}", _CURE))
        table.append(single.reshape(len(cloud), -1))
    file.write(np.concatenate(table, axis=1).tobytes())


def check(path: str | os.PathLike, names: list[str]) -> None:
    """Refuse, before the work, attributes that the rows cannot carry.

    Args:
        path: the file to be written.
        names: attribute names.

    Raises:
        ValueError: an attribute has no column, or intensity is missing.
    """
    rows = "x y z intensity ring" if is_nuscenes(path) else "x y z intensity"
    for name in names:
        if name not in rows.split():
            found = f"attribute {name!r}"
            raise ValueError(complain(os.fspath(path), f"{rows} only, a .bin", found, _CURE))
    for name in rows.split()[3:]:
        if name not in names:
            cure = f"add it with cloud.with_attributes({name}=...), or write .ply"
            raise ValueError(complain(os.fspath(path), f"the attribute {name!r}", names, cure))


def read_labels(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Read a SemanticKITTI `.label` file.

    Args:
        path: the file, one uint32 per point.

    Returns:
        Semantic ids (lower 16 bits) and instance ids (upper 16 bits).  # [N], [N] int32

    Raises:
        FileFormatError: the size is no multiple of four bytes.
    """
    size = os.path.getsize(path)
    if size % 4:
        raise malformed(path, "uint32 labels, 4 bytes each", f"{size} bytes")
    both = np.fromfile(path, "<u4")
    return (both & 0xFFFF).astype(np.int32), (both >> 16).astype(np.int32)


def write_labels(
    path: str | os.PathLike, label: np.ndarray, instance: np.ndarray | None = None
) -> None:
    """Write a SemanticKITTI `.label` file, the companion of a `.bin` scan.

    Args:
        path: the file to be.
        label: semantic ids, 0 to 65535.  # [N]
        instance: instance ids, 0 to 65535; zeros when absent.  # [N]

    Raises:
        ValueError: an id does not fit into 16 bits, or the lengths differ.
    """
    parts = [np.asarray(label), np.zeros_like(label) if instance is None else np.asarray(instance)]
    for name, ids in zip(("label", "instance"), parts, strict=True):
        fits = ids.dtype.kind in "iu" and ids.shape == parts[0].shape == (len(ids),)
        if not fits or not holds(np.dtype(np.uint16), ids):
            wanted = "integers [N] from 0 to 65535, one per point"
            raise ValueError(complain(name, wanted, f"{ids.dtype} {list(ids.shape)}"))
    both = parts[0].astype("<u4") | parts[1].astype("<u4") << 16
    with replacing(path) as file:
        file.write(both.tobytes())


def is_nuscenes(path: str | os.PathLike) -> bool:
    """Say whether a name announces rows of five.

    Args:
        path: a file name.

    Returns:
        True for `*.pcd.bin`.
    """
    return Path(path).name.lower().endswith(".pcd.bin")


def _columns(path, size: int) -> int:
    if is_nuscenes(path):
        return 5
    values = np.fromfile(path, "<f4", size // 4)
    fitting = [c for c in (4, 5) if size % (4 * c) == 0]
    possible = [c for c in fitting if _likely(values.reshape(-1, c))]
    if len(possible) != 1:
        found = f"{size} bytes that {'both' if possible else 'neither'} could explain"
        wanted = "rows of 4 float32 values (KITTI) or 5 (nuScenes)"
        raise malformed(path, wanted, found, "say how many values a row has with columns=")
    return possible[0]


def _plausible(table: np.ndarray) -> bool:
    with np.errstate(invalid="ignore"):
        return not (np.abs(table[:, :3]) > 1e7).any()


def _likely(table: np.ndarray) -> bool:
    """Whether intensity is never negative and a fifth column looks like laser numbers."""
    with np.errstate(invalid="ignore"):
        if (table[:, 3] < 0).any():
            return False
        if table.shape[1] == 4:
            return True
        ring = table[:, 4]
        return bool(((ring >= 0) & (ring < 256) & (ring == np.rint(ring))).all())
