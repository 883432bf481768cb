"""The header of a PCD file: its fields, and where their data begin."""

import os
from dataclasses import dataclass

import numpy as np

from sparseconv.io.errors import malformed, printable

_TABLE = ("FIELDS", "COLUMNS", "SIZE", "TYPE", "COUNT")
_KEYS = ("VERSION", *_TABLE, "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
_SIZES = {"I": (1, 2, 4, 8), "U": (1, 2, 4, 8), "F": (4, 8)}
_LONGEST = 1 << 20


@dataclass(frozen=True)
class Header:
    """The fields of the file in order, and the raw words of every header line."""

    names: list[str]
    dtypes: list[np.dtype]
    counts: list[int]
    points: int
    data: str
    size: int  # bytes
    lines: int
    values: dict[str, list[str]]


def read_header(path: str | os.PathLike) -> Header:
    """Parse the header of a PCD file.

    Args:
        path: the file.

    Returns:
        The header; nothing is allocated for what it claims.

    Raises:
        FileFormatError: a line is missing, unknown or contradicts another.
    """
    values: dict[str, list[str]] = {}
    lines = 0
    with open(path, "rb") as file:
        while "DATA" not in values:
            line = file.readline(_LONGEST)
            lines += 1
            words = line.decode("latin-1").split()
            if (
                not line
                or lines > 1000
                or (words and words[0].upper() not in _KEYS and not words[0].startswith("#"))
            ):
                found = printable(line) if line else "the end of the file"
                wanted = f"a PCD header line ({', '.join(_KEYS)})"
                raise malformed(path, wanted, found)
            if words and not words[0].startswith("#"):
                key = {"COLUMNS": "FIELDS"}.get(words[0].upper(), words[0].upper())
                if key in values:
                    raise malformed(path, f"one header line {key}", "two")
                values[key] = words[1:]
        size = file.tell()
    names = values.get("FIELDS", [])
    counts = _integers(path, values, "COUNT", len(names), ["1"] * len(names))
    sizes = _integers(path, values, "SIZE", len(names), None)
    kinds = [kind.upper() for kind in values.get("TYPE", [])]
    named = [name for name in names if name != "_"]
    if not names or len(set(named)) != len(named):
        raise malformed(path, "distinct names in FIELDS", " ".join(names) or "none")
    if len(kinds) != len(names) or 0 in counts:
        found = f"{' '.join(kinds) or 'none'}, COUNT {counts}"
        raise malformed(path, f"{len(names)} letters I, U, F in TYPE, COUNT at least 1", found)
    room = os.path.getsize(path)
    dtypes = []
    for name, kind, width, count in zip(names, kinds, sizes, counts, strict=True):
        if count * max(1, width) > room:
            raise malformed(path, f"a field {name!r} that fits into the file", f"COUNT {count}")
        if name == "_":
            dtypes.append(np.dtype(f"V{max(1, width)}"))
        elif width in _SIZES.get(kind, ()):
            dtypes.append(np.dtype(f"<{kind.lower()}{width}"))
        else:
            wanted = f"a type of 1, 2, 4 or 8 bytes for field {name!r}"
            raise malformed(path, wanted, f"TYPE {kind} SIZE {width}")
    data = " ".join(values["DATA"]).lower()
    if data not in ("ascii", "binary", "binary_compressed"):
        raise malformed(path, "DATA ascii, binary or binary_compressed", printable(data))
    points = _points(path, values)
    return Header(names, dtypes, counts, points, data, size, lines, values)


def _points(path, values: dict[str, list[str]]) -> int:
    width = _integers(path, values, "WIDTH", 1, values.get("POINTS"))[0]
    height = _integers(path, values, "HEIGHT", 1, ["1"])[0]
    points = _integers(path, values, "POINTS", 1, [str(width * height)])[0]
    if width * height != points:
        raise malformed(path, f"POINTS {width * height} (WIDTH x HEIGHT)", f"POINTS {points}")
    return points


def _integers(path, values, key: str, length: int, default: list[str] | None) -> list[int]:
    words = values.get(key, default)
    if (
        words is None
        or len(words) != length
        or not all(w.isdecimal() and len(w) < 16 for w in words)
    ):
        found = "no such line" if words is None else printable(" ".join(words))
        raise malformed(path, f"{length} whole numbers in the header line {key}", found)
    return [int(word) for word in words]
