"""The header of a PLY file: its elements, and where their data begin."""

import os
import re
from dataclasses import dataclass

import numpy as np

from sparseconv.io.errors import malformed, printable

TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
    "int64": "i8",
    "uint64": "u8",
}
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_MAGIC = re.compile(rb"ply[ \t]*(\r\n|\n|\r)")
_LONGEST = 1 << 24


@dataclass(frozen=True)
class Property:
    """One property: `count` is None for a number, else the dtype of a list's length."""

    name: str
    dtype: np.dtype
    count: np.dtype | None = None


@dataclass(frozen=True)
class Element:
    """A table of the file: its name, its number of rows, its properties."""

    name: str
    rows: int
    properties: tuple[Property, ...]

    @property
    def has_lists(self) -> bool:
        """Whether rows differ in size."""
        return any(p.count is not None for p in self.properties)

    @property
    def least_bytes(self) -> int:
        """Bytes of the shortest possible binary row."""
        return sum((p.dtype if p.count is None else p.count).itemsize for p in self.properties)


@dataclass(frozen=True)
class Header:
    """All a reader needs: byte order ('' for ascii), elements, where the data begin."""

    order: str
    elements: tuple[Element, ...]
    comments: tuple[str, ...]
    size: int  # bytes
    lines: int


def read_header(path: str | os.PathLike) -> Header:
    """Parse the header of a PLY file.

    Args:
        path: the file.

    Returns:
        The header; nothing is allocated for what it claims.

    Raises:
        FileFormatError: a line is not PLY.
    """
    with open(path, "rb") as file:
        head = file.read(1 << 16)
        magic = _MAGIC.match(head)
        if not magic:
            raise malformed(path, "the first line 'ply'", printable(head))
        newline = magic[1]
        last = re.compile(rb"(?:\r|\n)end_header[ \t]*" + re.escape(newline))
        if not last.search(head):
            head += file.read(_LONGEST)
    end = last.search(head)
    if not end:
        raise malformed(path, "a PLY header closed by 'end_header'", "no such line")
    lines = head[: end.end()].decode("latin-1").split(newline.decode())[1:-2]
    order, comments, tables = None, [], []
    for line in lines:
        words = line.split()
        match words:
            case []:
                continue
            case ["format", kind, "1.0"] if kind in _FORMATS and order is None:
                order = _FORMATS[kind]
            case ["comment" | "obj_info", *_]:
                comments.append(line.strip())
            case ["element", name, rows] if rows.isdecimal() and len(rows) < 19:
                tables.append((name, int(rows), []))
            case ["property", "list", count, kind, name] if tables and _is_list(count, kind):
                tables[-1][2].append(Property(name, _type(kind, order), _type(count, order)))
            case ["property", kind, name] if tables and kind in TYPES:
                tables[-1][2].append(Property(name, _type(kind, order)))
            case _:
                raise malformed(path, "a PLY header line", printable(line))
    if order is None:
        raise malformed(path, f"a format line ({', '.join(_FORMATS)}; 1.0)", "none")
    elements = tuple(Element(name, rows, tuple(properties)) for name, rows, properties in tables)
    _check(elements, order, end.end(), path)
    return Header(order, elements, tuple(comments), end.end(), len(lines) + 2)


def _is_list(count: str, kind: str) -> bool:
    return kind in TYPES and TYPES.get(count, "f")[0] in "iu"


def _type(kind: str, order: str | None) -> np.dtype:
    return np.dtype((order or "") + TYPES[kind])


def _check(elements: tuple[Element, ...], order: str, start: int, path) -> None:
    names = [element.name for element in elements]
    if names.count("vertex") != 1 or len(set(names)) != len(names):
        found = ", ".join(names) or "no element"
        raise malformed(path, "one element 'vertex', all names distinct", found)
    room = os.path.getsize(path) - start
    for element in elements:
        own = [p.name for p in element.properties]
        if len(set(own)) != len(own):
            raise malformed(path, f"distinct properties in element {element.name!r}", own)
        # an ascii number takes a digit and a blank
        least = element.least_bytes if order else 2 * len(own)
        if element.name == "vertex" and element.rows * least > room + (not order):
            wanted = f"{element.rows} vertices of at least {least} bytes"
            raise malformed(path, wanted, f"{room} bytes after the header")
