"""Text tables: .xyz .xyzn .xyzrgb .txt .asc .pts .csv, with or without header."""

import contextlib
import os
import re
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sparseconv._errors import complain
from sparseconv.io.ascii_rows import read_rows
from sparseconv.io.columns import COLOURS, NORMALS, gather, guess_names, holds, spread
from sparseconv.io.errors import malformed, printable
from sparseconv.io.point_cloud import PointCloud, quantise_colours

_DTYPES = "# sparseconv dtypes:"
_POINTS = "# sparseconv points:"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$|[-+]?(nan|inf|infinity)$", re.I)
_BLOCK = 1 << 16
_FIXED = {".xyzn": NORMALS[0], ".xyzrgb": COLOURS[0]}


def read(path: str | os.PathLike) -> PointCloud:
    """Read a table of numbers, one point per line.

    Lines that begin with `#` or `//` before the first point are comments; the last of them, or
    a first line of names, is the header when it names x, y and z and every column. Without a
    header the columns are named by `guess_names`. A first line that is one whole number is the
    count of points and must be true. Columns are split at blanks or tabs, or at commas or
    semicolons where there are any. Whole numbers become int32 (int64 where needed), `label`
    int32, `confidence` float32, colours uint8 or uint16; everything else is float64.

    Args:
        path: the file.

    Returns:
        The points in file order.

    Raises:
        FileFormatError: a line is no row of numbers, rows differ, or the count is wrong.
    """
    encoding = _encoding(path)
    head = _head(path, encoding)
    if head.row is None:
        if (head.names is None and head.count != 0) or head.count not in (None, 0):
            raise malformed(path, "lines of numbers x y z", "no such line")
        names = head.names or ["x", "y", "z"]
        columns = {name: np.zeros(0) for name in names}
        return PointCloud(*gather(_typed(columns, head.dtypes, [""] * len(names)), path))
    words = _split(head.row, head.delimiter)
    if not all(_NUMBER.match(word) for word in words) or len(words) < 3:
        raise malformed(path, "lines of three or more numbers", printable(head.row.strip()))
    if head.names is not None and len(head.names) != len(words):
        wanted = f"{len(head.names)} columns as in the header ({' '.join(head.names)})"
        raise malformed(path, wanted, f"{len(words)} in {printable(head.row.strip())}")
    table = read_rows(
        path,
        [np.dtype("f8")] * len(words),
        skip=head.lines,
        delimiter=head.delimiter,
        comment="#",
        encoding=encoding,
    )
    if head.count is not None and head.count != len(table[0]):
        wanted = f"{head.count} points, as its first lines say"
        raise malformed(path, wanted, f"{len(table[0])} rows")
    table = [_exact(path, table[k], k, head, encoding, words) for k in range(len(words))]
    suffix = Path(path).suffix.lower()
    names = head.names or [*"xyz", *_FIXED.get(suffix, ())]
    if len(names) != len(table):
        if head.names is None and suffix not in _FIXED:
            names = guess_names(table, intensity_first=suffix == ".pts")
        else:
            raise malformed(path, f"{len(names)} columns ({' '.join(names)})", len(table))
    columns = _typed(dict(zip(names, table, strict=True)), head.dtypes, words)
    if suffix == ".xyzrgb":
        rgb = np.stack([columns[c] for c in COLOURS[0]], axis=1).astype(np.float64)
        if not (rgb.size == 0 or (rgb.min() >= 0 and rgb.max() <= 1)):
            raise malformed(path, "colours between 0 and 1 in .xyzrgb", rgb.max())
        columns.update(zip(COLOURS[0], quantise_colours(rgb).T, strict=True))
    xyz, attributes = gather(columns, path)
    return PointCloud(xyz, attributes)


def write(file: BinaryIO, path: str | os.PathLike, cloud: PointCloud) -> None:
    """Write a table whose numbers are exact to the last bit.

    .csv begins with a line of names; .pts with the number of points, with names and dtypes in
    comments after the last point; the others with comments of count, names and dtypes. Readers
    that know only x y z skip the comments and find the further columns behind.

    Args:
        file: open for writing.
        path: its name; decides about the layout.
        cloud: what to write.

    Raises:
        ValueError: two columns would get one name, or .csv would hold no point.
    """
    suffix = Path(path).suffix.lower()
    attributes = dict(cloud.attributes)
    if suffix == ".pts":
        first = [name for name in ("intensity", "rgb") if name in attributes]
        attributes = {name: attributes[name] for name in [*first, *attributes]}
    check(path, list(attributes))
    columns = dict(zip("xyz", cloud.xyz.T, strict=True)) | spread(attributes)
    comma = suffix == ".csv"
    names = ("," if comma else " ").join(columns)
    dtypes = " ".join(values.dtype.name for values in columns.values())
    header = f"# {names}\n{_DTYPES} {dtypes}\n"
    count = f"{len(cloud)}\n" if suffix == ".pts" else f"{_POINTS} {len(cloud)}\n{header}"
    file.write((f"{names}\n" if comma else count).encode())
    for start in range(0, len(cloud), _BLOCK):
        parts = [map(repr, v[start : start + _BLOCK].tolist()) for v in _plain(columns)]
        rows = map((",," if comma else "  ")[:1].join, zip(*parts, strict=True))
        file.write(("\n".join(rows) + "\n").encode("ascii"))
    if suffix == ".pts":
        file.write(header.encode())


def check(path: str | os.PathLike, names: list[str]) -> None:
    """Refuse, before the work, attributes that .xyzn and .xyzrgb have no column for.

    Args:
        path: the file to be written.
        names: attribute names.

    Raises:
        ValueError: the suffix fixes the columns and `names` are others.
    """
    suffix = Path(path).suffix.lower()
    if suffix in _FIXED:
        found = ", ".join(names) or "no attribute"
        cure = "write .xyz, .txt, .csv or .ply, which keep every attribute"
        raise ValueError(complain(os.fspath(path), "a suffix that keeps attributes", found, cure))


class _Head:
    """What stands before the first row."""

    def __init__(self):
        self.lines = 0
        self.names: list[str] | None = None
        self.dtypes: list[str] | None = None
        self.count: int | None = None
        self.row: str | None = None
        self.delimiter: str | None = None


def _encoding(path) -> str:
    with open(path, "rb") as file:
        start = file.read(1 << 16)
    if b"\0" in start:
        raise malformed(path, "a text file", f"binary data {printable(start)}")
    return "utf-8-sig" if start.startswith(b"\xef\xbb\xbf") else "latin-1"


def _head(path, encoding: str) -> _Head:
    head = _Head()
    with open(path, encoding=encoding) as file:
        for line in islice(file, 10000):
            text = line.strip()
            if text.startswith(("#", "//")):
                _comment(head, text)
            elif text and _header_line(head, text, path):
                head.row, head.delimiter = line, _delimiter(text)
                break
            head.lines += 1
    if head.names is None and head.dtypes is None:
        _tail(path, head)
    if head.names and not all(head.names):
        raise malformed(path, "a name for each column", " ".join(map(repr, head.names)))
    if head.names and len({name.lower() for name in head.names}) != len(head.names):
        raise malformed(path, "distinct column names", " ".join(head.names))
    return head


def _header_line(head: _Head, text: str, path) -> bool:
    """Take a line of names or a count; return whether the line is the first row instead."""
    words = _split(text, _delimiter(text))
    if all(_NUMBER.match(word) for word in words):
        if len(words) == 1 and words[0].isdecimal() and head.count is None:
            head.count = int(words[0])
            return False
        return True
    named = len(words) >= 3 and not any(_NUMBER.match(word) for word in words)
    if not named or head.lines > 20 or head.names is not None:
        wanted = "numbers, or a header that names x, y and z, on the first lines"
        raise malformed(path, wanted, printable(text))
    head.names = [word.strip("\"'") for word in words]
    if not {"x", "y", "z"} <= {name.lower() for name in head.names}:
        raise malformed(path, "a header that names x, y and z", printable(text))
    return False


def _comment(head: _Head, text: str) -> None:
    if text.startswith(_POINTS):
        count = text[len(_POINTS) :].strip()
        head.count = int(count) if count.isdecimal() and len(count) < 16 else -1
        return
    if text.startswith(_DTYPES):
        head.dtypes = text[len(_DTYPES) :].split()
        return
    words = [w.strip("\"'") for w in _split(text.lstrip("#/").strip(), _delimiter(text))]
    if {"x", "y", "z"} <= {word.lower() for word in words}:
        head.names = words


def _tail(path, head: _Head) -> None:
    """Look for the names that `write` puts after the last point of a .pts file."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - (1 << 16)))
        lines = file.read().decode("latin-1").splitlines()[-2:]
    if len(lines) == 2 and lines[1].startswith(_DTYPES):
        for line in lines:
            _comment(head, line)


def _delimiter(text: str) -> str | None:
    return next((mark for mark in ";," if mark in text), None)


def _split(text: str, delimiter: str | None) -> list[str]:
    return [word.strip().strip('"') for word in text.strip().split(delimiter)]


def _exact(path, values, at: int, head: _Head, encoding: str, words: list[str]) -> np.ndarray:
    """Return a column again, parsed as integers where float64 cannot tell them apart."""
    if not words[at].lstrip("+-").isdecimal() or np.abs(values).max(initial=0) < 2**53:
        return values
    options = {"delimiter": head.delimiter, "comments": "#", "encoding": encoding}
    for kind in (np.int64, np.uint64):
        with contextlib.suppress(ValueError, OverflowError):
            skip = {"skiprows": head.lines, "usecols": at, "ndmin": 1}
            return np.loadtxt(os.path.abspath(path), kind, **skip, **options)
    return values


def _typed(columns: dict, dtypes: list[str] | None, words: list[str]) -> dict[str, np.ndarray]:
    known = {"label": np.int32, "confidence": np.float32}
    colours = [name for triple in COLOURS for name in triple] + ["alpha"]
    typed = {}
    for at, (name, values) in enumerate(columns.items()):
        lower = name.lower()
        declared = dtypes[at] if dtypes and len(dtypes) == len(columns) else None
        whole = len(values) > 0 and np.array_equal(values, np.rint(values))
        if declared is not None and re.fullmatch(
            r"bool|u?int(8|16|32|64)|float(16|32|64)", declared
        ):
            kind = np.dtype(declared)
        elif lower in known and (whole or not len(values) or lower == "confidence"):
            kind = np.dtype(known[lower])
        elif (
            lower in ("x", "y", "z", *NORMALS[0], *NORMALS[1])
            or values.dtype.kind in "iu"
            or not whole
        ):
            kind = values.dtype
        elif lower == "alpha" and holds(np.dtype(np.uint8), values):
            kind = np.dtype(np.uint8)
        elif lower in colours or not ("." in words[at] or "e" in words[at].lower()):
            kind = np.dtype(np.int32 if np.abs(values).max(initial=0) < 2**31 else np.int64)
        else:
            kind = values.dtype
        with np.errstate(invalid="ignore", over="ignore"):
            cast = values.astype(kind)
        same = kind.kind == "f" or np.array_equal(cast.astype(values.dtype), values)
        typed[name] = cast if same else values
    return typed


def _plain(columns: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [v.astype(np.uint8) if v.dtype == bool else v for v in columns.values()]
