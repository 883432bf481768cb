"""Between the named columns of a file and the canonical attributes of a cloud."""

import os
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

import numpy as np

from sparseconv._errors import complain
from sparseconv.io.errors import malformed
from sparseconv.io.point_cloud import PointCloud, canonical_misfit

COLOURS = (("red", "green", "blue"), ("r", "g", "b"))
NORMALS = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"))
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
NUMBERS = (*INTEGERS, "float32", "float64")
_INDEXED = re.compile(r"(.+)\[(\d+)\]$", re.DOTALL)


def gather(
    columns: Mapping[str, np.ndarray], path: str | os.PathLike
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Sort a file's columns into positions and attributes.

    Columns x y z (any case) are the positions; red green blue (integers) become `rgb`; nx ny nz
    become `normal`; `name[0]`, `name[1]`, ... become one attribute [N, k]. A column that bears a
    canonical name but has another form is called `<name>_raw`.

    Args:
        columns: the file's own name to values, in file order.  # [N] or [N, k]
        path: the file, for the error.

    Returns:
        Positions [N, 3] float64 and attributes in file order.

    Raises:
        FileFormatError: x, y or z is missing.
    """
    columns = dict(columns)
    axes = [_find(columns, axis) for axis in "xyz"]
    if None in axes or any(columns[axis].ndim != 1 for axis in axes):
        found = ", ".join(list(columns)[:12]) or "no columns"
        raise malformed(path, "columns x, y and z", found, "name the coordinates x, y, z")
    parts = [columns.pop(axis) for axis in axes]
    xyz = np.empty((len(parts[0]), 3))
    for axis, part in enumerate(parts):
        xyz[:, axis] = part
    for names in COLOURS:
        _merge(columns, names, "rgb", _colour_dtype)
    for names in NORMALS:
        _merge(columns, names, "normal", _normal_dtype)
    _merge_indexed(columns)
    attributes = {}
    for own, values in columns.items():
        name = unquote(own)
        lower = name.lower()
        if lower in ("intensity", "label", "confidence") and lower not in columns:
            name = lower
        if canonical_misfit(name, values):
            name += "_raw"
        while name in attributes:
            name += "_"
        attributes[name] = values
    return xyz, attributes


def spread(attributes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return attributes as single columns: the inverse of `gather`, without x y z.

    Args:
        attributes: name to values.  # [N] or [N, k]

    Returns:
        Column name (without blanks, commas or quotes) to values [N].

    Raises:
        ValueError: two columns would get one name.
    """
    columns: dict[str, np.ndarray] = {}
    for name, values in attributes.items():
        own = word(name)
        if name == "rgb":
            names = COLOURS[0]
        elif name == "normal":
            names = NORMALS[0]
        elif values.ndim == 2:
            names = tuple(f"{own}[{k}]" for k in range(values.shape[1]))
        else:
            names = (own,)
        table = values.reshape(len(values), len(names))
        for k, column in enumerate(names):
            if column in columns or column in "xyz":
                found = f"a second column {column!r} from attribute {name!r}"
                raise ValueError(complain("attributes", "distinct columns", found, "rename it"))
            columns[column] = table[:, k]
    return columns


def guess_names(table: list[np.ndarray], *, intensity_first: bool) -> list[str]:
    """Name the columns of a table without header.

    x y z come first. Then, as long as they match: a colour triple (integers 0 to 65535, printed
    0 to 255 or more than one value above), a normal triple (unit length or zero), one lone column
    as intensity; the rest are `column_3`, `column_4`, ... by position.

    Args:
        table: columns in file order.  # each [N]
        intensity_first: x y z intensity red green blue, as .pts files have it, is preferred over
            x y z red green blue extra where both match.

    Returns:
        A name for each column.
    """
    names, at, wide = ["x", "y", "z"], 3, len(table)
    if wide == 4:
        return [*names, "intensity"]
    lead = intensity_first or not _is_colour(table[3:6])
    if wide >= 7 and lead and _is_colour(table[4:7]):
        names, at = [*names, "intensity"], 4
    while at + 3 <= wide:
        triple = table[at : at + 3]
        if "red" not in names and _is_colour(triple):
            names += COLOURS[0]
        elif "nx" not in names and _is_normal(triple):
            names += NORMALS[0]
        else:
            break
        at += 3
    if at == 6 and wide == 7 and names[-1] == "blue" and _is_colour([table[6]]):
        names.append("alpha")
        at += 1
    return names + [f"column_{k}" for k in range(at, wide)]


def narrowed(values: np.ndarray, allowed: tuple[str, ...], name: str, cure: str) -> np.ndarray:
    """Return `values` in a dtype the format has, every value unchanged.

    Args:
        values: an attribute or column.  # [N, ...]
        allowed: dtype names of the format, narrowest first.
        name: attribute name, for the error.
        cure: the advice of the error.

    Returns:
        The array itself, or a copy in the first dtype that holds every value.

    Raises:
        ValueError: no allowed dtype holds every value.
    """
    if values.dtype.name in allowed:
        return values
    kinds = "f" if values.dtype.kind == "f" else "iu"
    for dtype in map(np.dtype, allowed):
        if dtype.kind not in kinds:
            continue
        if dtype.kind == "f":
            if dtype.itemsize >= values.dtype.itemsize:
                return values.astype(dtype)
        elif holds(dtype, values):
            return values.astype(dtype)
    found = f"{values.dtype} values beyond them"
    raise ValueError(complain(f"attribute {name!r}", f"one of {', '.join(allowed)}", found, cure))


def holds(dtype: np.dtype, values: np.ndarray) -> bool:
    """Say whether an integer dtype can hold every one of some integers or booleans.

    Args:
        dtype: integer dtype.
        values: integers or booleans.  # [N, ...]

    Returns:
        True when no value would change.
    """
    if values.size == 0:
        return True
    limits = np.iinfo(dtype)
    return limits.min <= int(values.min()) and int(values.max()) <= limits.max


def xyz_dtype(cloud: PointCloud) -> np.dtype:
    """Return the dtype to write coordinates in: float32 only where that loses nothing.

    Args:
        cloud: a cloud whose `meta["xyz_dtype"]` says what its file had.

    Returns:
        Little-endian float32 or float64.
    """
    if cloud.meta.get("xyz_dtype") == "float32":
        with np.errstate(over="ignore"):
            single = cloud.xyz.astype(np.float32)
        if np.array_equal(single.astype(np.float64), cloud.xyz, equal_nan=True):
            return np.dtype("<f4")
    return np.dtype("<f8")


def native(values: np.ndarray) -> np.ndarray:
    """Return values in the machine's byte order, in one block of memory.

    Args:
        values: a column, perhaps a field of a structured array.  # [N, ...]

    Returns:
        The same values.
    """
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def word(name: str) -> str:
    """Return an attribute name as one ascii word; `gather` turns it back.

    Args:
        name: any text.

    Returns:
        The name with blanks, commas, quotes, `#` and `;` as `%20` and so on.
    """
    return quote(name, safe="!$&'()*+-./:<=>?@[]^_`{|}~")


def _find(columns: Mapping[str, np.ndarray], wanted: str) -> str | None:
    if wanted in columns:
        return wanted
    return next((name for name in columns if name.lower() == wanted), None)


def _merge(columns: dict, names: tuple[str, str, str], merged: str, common_dtype) -> None:
    own = [_find(columns, name) for name in names]
    if None in own or merged in columns or any(columns[name].ndim != 1 for name in own):
        return
    dtype = common_dtype([columns[name] for name in own])
    if dtype is None:
        return
    triple = np.stack([columns[name] for name in own], axis=1).astype(dtype, copy=False)
    _replace(columns, own, merged, triple)


def _merge_indexed(columns: dict) -> None:
    groups: dict[str, list[str]] = {}
    for name in columns:
        match = _INDEXED.match(name)
        if match and int(match[2]) == len(groups.get(match[1], ())):
            groups.setdefault(match[1], []).append(name)
    for merged, own in groups.items():
        parts = [columns[name] for name in own]
        if merged not in columns and len({(part.dtype, part.ndim) for part in parts}) == 1:
            _replace(columns, own, merged, np.stack(parts, axis=1))


def _replace(columns: dict, old: list[str], new: str, values: np.ndarray) -> None:
    items = list(columns.items())
    columns.clear()
    for name, kept in items:
        if name == old[0]:
            columns[new] = values
        elif name not in old:
            columns[name] = kept


def _colour_dtype(parts: list[np.ndarray]) -> np.dtype | None:
    dtypes = {part.dtype for part in parts}
    if len(dtypes) == 1 and parts[0].dtype in (np.uint8, np.uint16):
        return parts[0].dtype
    if any(part.dtype.kind not in "iu" for part in parts):
        return None
    fitting = (
        np.dtype(d) for d in ("uint8", "uint16") if all(holds(np.dtype(d), p) for p in parts)
    )
    return next(fitting, None)


def _normal_dtype(parts: list[np.ndarray]) -> np.dtype | None:
    if any(part.dtype.kind != "f" for part in parts):
        return None
    return np.result_type(*parts)


def _is_colour(columns: list[np.ndarray]) -> bool:
    for values in columns:
        if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
            return False
        if len(values) and not (values.min() >= 0 and values.max() <= 65535):
            return False
    return bool(columns)


def _is_normal(columns: list[np.ndarray]) -> bool:
    square = sum(values.astype(np.float64) ** 2 for values in columns)
    return bool(np.all((np.abs(square - 1) < 0.02) | (square == 0)))
