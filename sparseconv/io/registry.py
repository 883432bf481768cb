"""The table of formats: which suffix is read and written by what."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import sparseconv.io.bin_io as bin_io
import sparseconv.io.las_io as las_io
import sparseconv.io.mesh_io as mesh_io
import sparseconv.io.numpy_io as numpy_io
import sparseconv.io.pcd_io as pcd_io
import sparseconv.io.ply_io as ply_io
import sparseconv.io.ptx_io as ptx_io
import sparseconv.io.text_io as text_io
from sparseconv._errors import complain
from sparseconv.io.atomic import replacing
from sparseconv.io.errors import FileFormatError, malformed
from sparseconv.io.point_cloud import PointCloud


@dataclass(frozen=True)
class Format:
    """One row of the table; `check` refuses attribute names before any work."""

    read: Callable
    write: Callable | None = None
    check: Callable | None = None
    options: tuple[str, ...] = ()


_TEXT = Format(text_io.read, text_io.write, text_io.check)
_LAS = Format(las_io.read, las_io.write, las_io.check)
FORMATS = {
    ".ply": Format(ply_io.read, ply_io.write),
    ".pcd": Format(pcd_io.read, pcd_io.write),
    ".las": _LAS,
    ".laz": _LAS,
    ".bin": Format(bin_io.read, bin_io.write, bin_io.check, options=("columns",)),
    ".npy": Format(numpy_io.read_npy, numpy_io.write_npy),
    ".npz": Format(numpy_io.read_npz, numpy_io.write_npz),
    ".off": Format(mesh_io.read_off, mesh_io.write_off),
    ".obj": Format(mesh_io.read_obj, mesh_io.write_obj),
    **dict.fromkeys((".xyz", ".txt", ".asc", ".csv", ".pts"), _TEXT),
    **dict.fromkeys((".xyzn", ".xyzrgb"), Format(text_io.read)),
    ".ptx": Format(ptx_io.read),
}


def readable_suffixes() -> tuple[str, ...]:
    """Return the suffixes that `read` takes.

    Returns:
        Lower-case suffixes with their dot.
    """
    return tuple(FORMATS)


def writable_suffixes() -> tuple[str, ...]:
    """Return the suffixes that `write` takes.

    Returns:
        Lower-case suffixes with their dot.
    """
    return tuple(suffix for suffix, form in FORMATS.items() if form.write)


def read(path: str | os.PathLike, **options) -> PointCloud:
    """Read a point cloud; the suffix names the format.

    Args:
        path: a file with one of `readable_suffixes()`.
        **options: `columns` (values per row) for .bin.

    Returns:
        Every point and every attribute in file order; coordinates in float64.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: the path is a folder.
        FileFormatError: the file does not hold what its format promises.
        ValueError: the suffix is unknown, or an option is not of this format.
        ImportError: the package that reads the format is not installed.
    """
    name = os.fspath(path)
    _check_file(name)
    form = _format(name, readable_suffixes())
    for option in options:
        if option not in form.options:
            found = ", ".join(form.options) or "none"
            raise ValueError(complain(option, f"an option of {Path(name).suffix}", found))
    if os.path.getsize(name) == 0:
        raise malformed(name, "a point cloud", "an empty file (0 bytes)")
    try:
        cloud = form.read(name, **options)
    except (FileFormatError, OSError, ImportError):
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {error}".replace("\n", " ")[:200]
        raise malformed(name, f"a well-formed {Path(name).suffix} file", found) from error
    return cloud.replace(meta={**cloud.meta, "source": name})


def write(path: str | os.PathLike, cloud: PointCloud) -> None:
    """Write a point cloud; the suffix names the format.

    The file appears whole or not at all: it is written under another name in the same folder,
    then renamed. Values are exact; a dtype the format lacks becomes the narrowest that holds every
    value, else the attribute is refused.

    Args:
        path: a file with one of `writable_suffixes()`; an existing one is replaced.
        cloud: what to write.

    Raises:
        FileNotFoundError: the folder does not exist.
        IsADirectoryError: the path is a folder.
        PermissionError: the folder cannot be written to.
        ValueError: the suffix is unknown, or the format cannot carry an attribute.
    """
    if not isinstance(cloud, PointCloud):
        raise TypeError(complain("cloud", "a PointCloud", type(cloud).__name__))
    check_writable(path, cloud)
    name = os.fspath(path)
    with replacing(name) as file:
        _format(name, writable_suffixes()).write(file, name, cloud)


def check_writable(path: str | os.PathLike, attributes: PointCloud | Iterable[str] = ()) -> None:
    """Refuse an output before the work whose result it should take.

    Args:
        path: the file to be written.
        attributes: a cloud, or the attribute names of one.

    Raises:
        OSError: as `write`.
        ValueError: as `write`, as far as names tell.
    """
    name = os.fspath(path)
    form = _format(name, writable_suffixes())
    folder = os.path.dirname(os.path.realpath(name))
    if os.path.isdir(name):
        raise IsADirectoryError(complain(name, "a file name", "a folder", "add a file name"))
    if not os.path.isdir(folder):
        found = f"no folder {folder}"
        raise FileNotFoundError(complain(name, "a path in an existing folder", found, "create it"))
    if not os.access(folder, os.W_OK | os.X_OK):
        found = f"no right to write in {folder}"
        raise PermissionError(complain(name, "a writable folder", found, "choose another"))
    if form.check:
        names = attributes.attributes if isinstance(attributes, PointCloud) else attributes
        form.check(name, list(names))


def _check_file(name: str) -> None:
    if os.path.isdir(name):
        raise IsADirectoryError(complain(name, "a file", "a folder", "name a file inside it"))
    if not os.path.exists(name):
        raise FileNotFoundError(complain(name, "an existing file", "none", "check the path"))
    if not os.path.isfile(name):
        raise malformed(name, "a regular file", "a device or pipe", "copy the data to a file")


def _format(name: str, suffixes: tuple[str, ...]) -> Format:
    suffix = Path(name).suffix.lower()
    if suffix not in suffixes:
        found = f"{suffix!r}" if suffix else "none"
        cure = "rename or convert the file"
        raise ValueError(complain(name, f"a suffix of {' '.join(suffixes)}", found, cure))
    return FORMATS[suffix]
