"""The vertices of .off and .obj files; further attributes travel in comments at the end."""

import os
import re
from itertools import islice
from typing import BinaryIO

import numpy as np

from sparseconv.io.columns import COLOURS, NORMALS, gather, holds, spread
from sparseconv.io.errors import malformed, printable
from sparseconv.io.point_cloud import PointCloud, quantise_colours

_MARK = "# sparseconv attributes:"
_OFF = re.compile(r"(ST)?(C)?(N)?(4)?(n)?OFF(?=[\s\d#]|$)")
# a face corner whose normal is not the one with the vertex's number
_OTHER_NORMAL = re.compile(r"(?<![\d/-])(-?\d+)/[^/\s]*/(?!\1(?!\d))")
_DTYPE = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")


def read_off(path: str | os.PathLike) -> PointCloud:
    """Read the vertices of an ascii OFF file (OFF, COFF, NOFF, CNOFF); faces are not looked at.

    Args:
        path: the file.

    Returns:
        The vertices in file order, with `normal` and `rgb` where the file has them.

    Raises:
        FileFormatError: the header is no OFF header, or a vertex is missing or malformed.
    """
    data = _text(path).lstrip()
    match = _OFF.match(data)
    if not match or match[4] or match[5] or "BINARY" in data[:64]:
        raise malformed(path, "an ascii OFF, COFF, NOFF or CNOFF file", printable(data))
    lines = data[match.end() :].splitlines()
    rows = (row for line in lines if (row := line.split("#")[0].strip()))
    counts = next(rows, "").split()
    if len(counts) not in (2, 3) or not all(w.isdecimal() and len(w) < 16 for w in counts):
        found = printable(" ".join(counts))
        raise malformed(path, "the numbers of vertices, faces and edges", found)
    count = int(counts[0])
    if count > len(lines):
        raise malformed(path, f"{count} vertex lines", f"{len(lines)} lines")
    vertices = list(islice(rows, count))
    table = _table(path, vertices, count, "vertex lines")
    columns = dict(zip("xyz", table.T[:3], strict=True))
    if not count:
        return _finish(columns, data, path)
    at, end = 6 if match[3] else 3, table.shape[1] - (2 if match[1] else 0)
    if end - at not in ((3, 4) if match[2] else (0, 3, 4)):
        wanted = f"vertex lines as {match[0]} has them"
        raise malformed(path, wanted, f"{table.shape[1]} numbers each")
    if match[3]:
        columns.update(zip(NORMALS[0], table.T[3:6], strict=True))
    if end - at >= 3:
        whole = all(word.isdecimal() for word in vertices[0].split()[at:end])
        _add_colours(columns, table[:, at:end], path, whole=whole)
    return _finish(columns, data, path)


def read_obj(path: str | os.PathLike) -> PointCloud:
    """Read the `v` lines of an OBJ file: x y z, then a weight or a colour between 0 and 1.

    Normals are taken where there is one per vertex and every face uses them so.

    Args:
        path: the file.

    Returns:
        The vertices in file order; colours are uint8 where they are multiples of 1/255, uint16
        else, and float attributes red, green, blue where one is NaN or outside 0 to 1.

    Raises:
        FileFormatError: there is no vertex, or one is malformed.
    """
    data = _text(path)
    lines = data.splitlines()
    vertices = [line[2:] for line in lines if line[:2] in ("v ", "v\t")]
    count = re.match(r"# sparseconv points: (\d{1,15})\n", data)
    if count and int(count[1]) != len(vertices):
        raise malformed(path, f"{count[1]} vertices, as the first line says", len(vertices))
    if not vertices and _MARK not in data:
        raise malformed(path, "at least one vertex line 'v x y z'", "none")
    table = _table(path, vertices, len(vertices), "'v' lines")
    columns = dict(zip("xyz", table.T[:3], strict=True))
    wide = table.shape[1]
    if wide not in (3, 4, 6, 7):
        raise malformed(path, "'v' lines of 3, 4, 6 or 7 numbers", wide)
    if wide in (4, 7) and not (table[:, 3] == 1).all():
        columns["weight"] = table[:, 3]
    if wide >= 6:
        _add_colours(columns, table[:, -3:], path)
    normals = [line[3:] for line in lines if line[:3] in ("vn ", "vn\t")]
    faces = (line for line in lines if line[:1] == "f")
    if normals and len(normals) == len(vertices) and not _OTHER_NORMAL.search("\n".join(faces)):
        values = _table(path, normals, len(normals), "'vn' lines")
        columns.update(zip(NORMALS[0], values.T[:3], strict=True))
    return _finish(columns, data, path)


def write_off(file: BinaryIO, path: str | os.PathLike, cloud: PointCloud) -> None:
    """Write an OFF file of vertices only, normals and colours where the cloud has them.

    Every further attribute (label, confidence, ...) stands in comments after the vertices, which
    other programs skip.

    Args:
        file: open for writing.
        path: its name, for errors.
        cloud: what to write.
    """
    parts, kind = [cloud.xyz], "OFF"
    if "normal" in cloud.attributes:
        parts, kind = [*parts, cloud.attributes["normal"]], "NOFF"
    rgb = cloud.attributes.get("rgb")
    if rgb is not None:
        # a fourth value, opaque: open3d and others refuse colours without it
        eight_bit = rgb.dtype == np.uint8
        opaque = np.full((len(rgb), 1), 255 if eight_bit else 1.0)
        parts += [
            rgb if eight_bit else rgb / 65535,
            opaque.astype(rgb.dtype if eight_bit else float),
        ]
        kind = "C" + kind
    file.write(f"{kind}\n{len(cloud)} 0 0\n".encode())
    _write_rows(file, "", parts)
    _write_comments(file, cloud)


def write_obj(file: BinaryIO, path: str | os.PathLike, cloud: PointCloud) -> None:
    """Write an OBJ file of vertices, colours behind the coordinates, one normal per vertex.

    Every further attribute stands in comments after the vertices.

    Args:
        file: open for writing.
        path: its name, for errors.
        cloud: what to write.
    """
    rgb = cloud.attributes.get("rgb")
    scale = 255 if rgb is not None and rgb.dtype == np.uint8 else 65535
    file.write(f"# sparseconv points: {len(cloud)}\n".encode())
    _write_rows(file, "v ", [cloud.xyz] + ([] if rgb is None else [rgb / scale]))
    if "normal" in cloud.attributes:
        _write_rows(file, "vn ", [cloud.attributes["normal"]])
    _write_comments(file, cloud)


def _text(path) -> str:
    with open(path, encoding="latin-1") as file:
        return file.read()


def _table(path, rows: list[str], count: int, what: str) -> np.ndarray:
    wanted = f"{count} {what} of the same three or more numbers"
    if len(rows) != count:
        raise malformed(path, wanted, f"{len(rows)}, then the end of the file")
    if not count:
        return np.zeros((0, 3))
    try:
        table = np.loadtxt(rows, ndmin=2)
    except ValueError as error:
        raise malformed(path, wanted, printable(str(error), 100)) from error
    if len(table) != count or table.shape[1] < 3:
        raise malformed(path, wanted, f"{len(table)} of {table.shape[1]}")
    return table


def _add_colours(columns: dict, rgb: np.ndarray, path, *, whole: bool = False) -> None:
    names = (*COLOURS[0], "alpha")
    if rgb.size and (whole or rgb.max() > 1) and np.array_equal(rgb, np.rint(rgb)):
        if rgb.min() < 0 or rgb.max() > 255:
            raise malformed(path, "colours of 0 to 255 or 0 to 1", f"{rgb.min()} to {rgb.max()}")
        rgb = rgb.astype(np.uint8)
    elif not rgb.size or (rgb.min() >= 0 and rgb.max() <= 1):
        rgb = quantise_colours(rgb)
    columns.update(zip(names, rgb.T, strict=False))


def _finish(columns: dict, data: str, path) -> PointCloud:
    """Add what the comments at the end carry and put everything in its old order and dtype."""
    place = data.rfind(_MARK)
    if place < 0:
        return PointCloud(*gather(columns, path))
    columns.pop("alpha", None)
    first, *rows = data[place:].splitlines()
    declared = [item.rpartition(":")[::2] for item in first[len(_MARK) :].split()]
    for _, dtype in declared:
        if not _DTYPE.fullmatch(dtype):
            raise malformed(path, "a dtype in the attribute comment", printable(dtype))
    extra = [(name, dtype) for name, dtype in declared if name not in columns]
    carried = _comments(path, extra, [row[1:] for row in rows if row.strip("# ")], columns["x"])
    ordered = {axis: columns.pop(axis) for axis in "xyz"}
    for name, dtype in declared:
        if name in carried:
            ordered[name] = carried[name]
            continue
        values = columns.pop(name)
        if name in COLOURS[0] and (values.dtype, dtype) == (np.uint8, "uint16"):
            values = values.astype(np.uint16) * 257
        if dtype[0] in "ui" and values.dtype.kind == "f":
            raise malformed(path, f"{name} of type {dtype}, as the comment says", "others")
        ordered[name] = values.astype(dtype)
    return PointCloud(*gather(ordered, path))


def _comments(path, extra: list[tuple[str, str]], rows: list[str], x: np.ndarray) -> dict:
    names = [name for name, _ in extra]
    wanted = f"{len(x)} comments with the attributes {' '.join(names) or '(none)'}"
    if len(rows) != (len(x) if extra else 0) or len(set(names)) != len(names):
        raise malformed(path, wanted, f"{len(rows)} comments")
    if not rows:
        return {name: np.zeros(0, dtype) for name, dtype in extra}
    kinds = [{"u": "u8", "i": "i8"}.get(dtype[0], "f8") for _, dtype in extra]
    try:
        table = np.loadtxt(rows, dtype=list(zip(names, kinds, strict=True)), ndmin=1)
    except (ValueError, OverflowError) as error:
        raise malformed(path, wanted, printable(str(error), 100)) from error
    for name, dtype in extra:
        if dtype[0] in "ui" and not holds(np.dtype(dtype), table[name]):
            raise malformed(path, f"{dtype} values of {name!r}", "greater ones")
    return {name: table[name].astype(dtype) for name, dtype in extra}


def _write_rows(file: BinaryIO, prefix: str, parts: list[np.ndarray]) -> None:
    columns = [column.tolist() for part in parts for column in part.T]
    for row in zip(*columns, strict=True):
        file.write((prefix + " ".join(map(repr, row)) + "\n").encode("ascii"))


def _write_comments(file: BinaryIO, cloud: PointCloud) -> None:
    columns = spread(cloud.attributes)
    named = " ".join(f"{name}:{values.dtype.name}" for name, values in columns.items())
    file.write(f"{_MARK} {named}\n".encode())
    shown = [
        n
        for kind, names in (("rgb", COLOURS[0]), ("normal", NORMALS[0]))
        if kind in cloud.attributes
        for n in names
    ]
    extra = [
        v.astype(np.uint8) if v.dtype == bool else v
        for name, v in columns.items()
        if name not in shown
    ]
    if extra:
        _write_rows(file, "# ", [np.array(v)[:, None] for v in extra])
