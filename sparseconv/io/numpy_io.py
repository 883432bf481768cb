"""NumPy's .npy (plain or structured) and .npz, without pickles."""

import ast
import os
import zipfile
from typing import BinaryIO

import numpy as np

from sparseconv._errors import complain
from sparseconv.io.columns import gather, guess_names, native, spread
from sparseconv.io.errors import malformed, printable
from sparseconv.io.point_cloud import PointCloud

_POSITIONS = ("xyz", "points", "positions", "pos", "coord", "coords")


def read_npy(path: str | os.PathLike) -> PointCloud:
    """Read a plain array [N, 3 or more] or a structured one with fields x, y, z.

    Args:
        path: the file.

    Returns:
        The points; columns of a plain array are named by `guess_names`, fields keep their names.

    Raises:
        FileFormatError: the file is no .npy, holds objects, or has no positions.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        dtype, fortran, shape = _header(file, path)
        start = file.tell()
        count = _count(shape, dtype, size - start, path)
        array = np.fromfile(file, dtype, count)
    return _cloud(array.reshape(shape, order="F" if fortran else "C"), path)


def read_npz(path: str | os.PathLike) -> PointCloud:
    """Read an archive of arrays: `xyz` (or points, positions, coords; or x, y, z) and attributes.

    Args:
        path: the file.

    Returns:
        The points; arrays without a row per point are kept in `meta["arrays"]`.

    Raises:
        FileFormatError: the archive is damaged, holds objects, or has no positions.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                # deflate never makes more than 1032 bytes of one
                if entry.file_size > 1040 * entry.compress_size + 1040:
                    raise malformed(path, f"a true size of {entry.filename!r}", entry.file_size)
                with archive.open(entry) as file:
                    dtype, fortran, shape = _header(file, path)
                    data = file.read()
                count = _count(shape, dtype, len(data), path)
                array = np.frombuffer(data, dtype, count)
                name = entry.filename.removesuffix(".npy")
                arrays[name] = array.reshape(shape, order="F" if fortran else "C")
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,
        EOFError,
        OSError,
    ) as error:
        raise malformed(path, "an .npz archive", error) from error
    named = next((n for n in arrays if n.lower() in _POSITIONS), None)
    if named is None:
        count = len(np.atleast_1d(arrays["x"])) if "x" in arrays else -1
        columns = {n: native(a) for n, a in arrays.items() if a.ndim and len(a) == count}
        xyz, attributes = gather(columns, path)
    else:
        xyz = arrays[named]
        if xyz.ndim != 2 or xyz.shape[1] != 3 or xyz.dtype.kind not in "iuf":
            raise malformed(path, f"numbers [N, 3] in {named!r}", f"{xyz.dtype} {xyz.shape}")
        rest = {
            n: native(a)
            for n, a in arrays.items()
            if n != named and a.ndim in (1, 2) and len(a) == len(xyz)
        }
        stand_ins = {axis: np.zeros(len(xyz)) for axis in "xyz" if axis not in rest}
        _, attributes = gather({**stand_ins, **rest}, path)
        attributes.update({axis: rest[axis] for axis in "xyz" if axis in rest})
    others = {n: a for n, a in arrays.items() if n != named and not (a.ndim and len(a) == len(xyz))}
    return PointCloud(xyz, attributes, {"arrays": others} if others else {})


def write_npy(file: BinaryIO, path: str | os.PathLike, cloud: PointCloud) -> None:
    """Write one structured array with fields x, y, z and a field for each attribute column.

    Args:
        file: open for writing.
        path: its name, for errors.
        cloud: what to write; every dtype is kept.

    Raises:
        ValueError: two columns would get one name.
    """
    columns = dict(zip("xyz", cloud.xyz.T, strict=True)) | spread(cloud.attributes)
    rows = np.empty(len(cloud), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    np.lib.format.write_array(file, rows, allow_pickle=False)


def write_npz(file: BinaryIO, path: str | os.PathLike, cloud: PointCloud) -> None:
    """Write `xyz` and every attribute as it is, uncompressed.

    Args:
        file: open for writing.
        path: its name, for errors.
        cloud: what to write; every dtype and shape is kept.

    Raises:
        ValueError: an attribute is called like the positions.
    """
    arrays = {"xyz": cloud.xyz, **cloud.meta.get("arrays", {})}
    for name, values in cloud.attributes.items():
        if name.lower() in (*_POSITIONS, *arrays):
            cure = "rename the attribute"
            raise ValueError(complain(f"attribute {name!r}", "a name of its own", name, cure))
        arrays[name] = values
    with zipfile.ZipFile(file, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(values), allow_pickle=False)


def _header(file, path) -> tuple[np.dtype, bool, tuple[int, ...]]:
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or len(magic) < 8 or magic[6] not in (1, 2, 3):
        raise malformed(path, "a NumPy array, which begins with '\\x93NUMPY'", printable(magic))
    length = int.from_bytes(file.read(2 if magic[6] == 1 else 4), "little")
    text = file.read(min(length, 1 << 20)).decode("utf-8" if magic[6] == 3 else "latin-1")
    try:
        fields = ast.literal_eval(text.strip())
        dtype = np.lib.format.descr_to_dtype(fields["descr"])
        shape, fortran = tuple(fields["shape"]), bool(fields["fortran_order"])
    except Exception as error:
        raise malformed(path, "a NumPy array header", printable(text, 80)) from error
    if len(text) < length and len(text.encode()) < length:
        raise malformed(path, f"a header of {length} bytes", f"{len(text)} bytes")
    if not all(type(n) is int and 0 <= n < 1 << 60 for n in shape) or len(shape) > 8:
        raise malformed(path, "an array shape", printable(str(shape), 80))
    if dtype.hasobject:
        cure = "save the points as an array of numbers: np.save(path, xyz)"
        raise malformed(path, "an array of numbers", "pickled Python objects", cure)
    return dtype, fortran, shape


def _count(shape: tuple[int, ...], dtype: np.dtype, room: int, path) -> int:
    count = 1
    for extent in shape:
        count *= extent
    if count * dtype.itemsize != room or dtype.itemsize == 0:
        wanted = f"{count} values of {dtype.itemsize} bytes (shape {shape})"
        raise malformed(path, wanted, f"{room} bytes after the header")
    return count


def _cloud(array: np.ndarray, path) -> PointCloud:
    if array.dtype.names:
        rows = array.reshape(-1)
        columns = {name: native(rows[name]) for name in rows.dtype.names}
        named = next((n for n in columns if n.lower() in _POSITIONS), None)
        if named and columns[named].ndim == 2 and columns[named].shape[1] == 3:
            xyz = columns.pop(named)
            columns = {**dict(zip("xyz", xyz.T, strict=True)), **columns}
        return PointCloud(*gather(columns, path))
    if array.ndim != 2 or array.shape[1] < 3 or array.dtype.kind not in "iuf":
        found = f"{array.dtype} {list(array.shape)}"
        cure = "save [N, 3] or more columns, or a structured array with fields x, y, z"
        raise malformed(path, "numbers [N, 3 or more]", found, cure)
    table = [native(column) for column in array.T]
    names = guess_names(table, intensity_first=False)
    columns = dict(zip(names, table, strict=True))
    for name in ("red", "green", "blue", "alpha"):
        if name in columns and columns[name].dtype.kind == "f":
            wide = max(columns[c].max(initial=0) for c in ("red", "green", "blue")) > 255
            columns[name] = columns[name].astype(np.uint16 if wide else np.uint8)
    return PointCloud(*gather(columns, path))
