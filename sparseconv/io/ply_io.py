"""PLY: ascii and binary of both byte orders; every scalar property is kept with its type."""

import os
from itertools import islice
from typing import BinaryIO

import numpy as np

from sparseconv.io.ascii_rows import read_rows
from sparseconv.io.columns import gather, narrowed, native, spread, xyz_dtype
from sparseconv.io.errors import malformed, printable
from sparseconv.io.ply_header import Element, Header, read_header
from sparseconv.io.point_cloud import PointCloud

_NAMES = {
    "int8": "char",
    "uint8": "uchar",
    "int16": "short",
    "uint16": "ushort",
    "int32": "int",
    "uint32": "uint",
    "float32": "float",
    "float64": "double",
}
_CURE = "convert the attribute, or write .npz, .pcd or .las, which have 64-bit integers"


def read(path: str | os.PathLike) -> PointCloud:
    """Read the vertices of a PLY file; faces and other elements are not looked at.

    A list property is kept as [N, k] where all lists are of one length, else it is left out and
    named in `meta["left_out"]`. Coordinates of ascii files keep all their digits.

    Args:
        path: the file.

    Returns:
        The points in file order.

    Raises:
        FileFormatError: the header is no PLY header, or data are missing or too many.
    """
    header = read_header(path)
    columns, left_out = (_read_binary if header.order else _read_ascii)(path, header)
    xyz, attributes = gather(columns, path)
    vertex = _vertex(header)
    single = all(
        p.dtype.itemsize == 4 and p.dtype.kind == "f"
        for p in vertex.properties
        if p.name.lower() in ("x", "y", "z")
    )
    meta = {
        "xyz_dtype": "float32" if single and header.order else "float64",
        "comments": list(header.comments),
    }
    if left_out:
        meta["left_out"] = left_out
    return PointCloud(xyz, attributes, meta)


def write(file: BinaryIO, path: str | os.PathLike, cloud: PointCloud) -> None:
    """Write a binary little-endian PLY file.

    Coordinates are `float` when the file they came from had `float` and nothing is lost, else
    `double`. [N, k] attributes become properties `name[0]`, `name[1]`, ...

    Args:
        file: open for writing.
        path: its name, for errors.
        cloud: what to write.

    Raises:
        ValueError: an attribute has values PLY cannot hold.
    """
    columns = {
        name: narrowed(values, tuple(_NAMES), name, _CURE)
        for name, values in spread(cloud.attributes).items()
    }
    fields = [(name, xyz_dtype(cloud)) for name in "xyz"]
    fields += [(name, values.dtype.newbyteorder("<")) for name, values in columns.items()]
    columns.update(zip("xyz", cloud.xyz.T, strict=True))
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [c for c in cloud.meta.get("comments", ()) if c.startswith(("comment", "obj_info"))]
    lines.append(f"element vertex {len(cloud)}")
    lines += [f"property {_NAMES[np.dtype(dtype).name]} {name}" for name, dtype in fields]
    file.write("\n".join([*lines, "end_header\n"]).encode("latin-1", "replace"))
    rows = np.empty(len(cloud), np.dtype(fields))
    for name in rows.dtype.names:
        rows[name] = columns[name]
    file.write(rows.data if len(rows) else b"")


def _vertex(header: Header) -> Element:
    return next(element for element in header.elements if element.name == "vertex")


def _read_binary(path, header: Header) -> tuple[dict[str, np.ndarray], list[str]]:
    size, at = os.path.getsize(path), header.size
    with open(path, "rb") as file:
        for element in header.elements:
            file.seek(at)
            if element.name == "vertex":
                break
            at = _end_of(file, element, at, size, path)
        columns, left_out, at = _binary_columns(file, element, at, size, path)
    row = max(1, (at - header.size) // max(1, element.rows))
    if element is header.elements[-1] and size - at >= row:
        wanted = f"the end of the file after {element.rows} vertices"
        raise malformed(path, wanted, f"{size - at} more bytes")
    return columns, left_out


def _binary_columns(file: BinaryIO, element: Element, at: int, size: int, path):
    lengths = _first_lengths(file, element, at, size, path)
    fields = _fixed_fields(element, lengths)
    dtype = np.dtype(fields)
    wanted = f"{element.rows} vertices of {dtype.itemsize} bytes"
    if element.rows * dtype.itemsize <= size - at:
        file.seek(at)
        rows = np.fromfile(file, dtype, element.rows)
        if len(rows) == element.rows and all(
            (rows[f"{name} length"] == length).all() for name, length in lengths.items()
        ):
            kept = (name for name in dtype.names if not name.endswith(" length"))
            columns = {name: native(rows[name]) for name in kept}
            return columns, [], at + rows.nbytes
    if not lengths:
        raise malformed(path, wanted, f"{size - at} bytes")
    scalars = [p for p in element.properties if p.count is None]
    columns = {p.name: np.empty(element.rows, p.dtype.newbyteorder("=")) for p in scalars}
    end = _walk(file, element, at, size, path, columns)
    return columns, list(lengths), end


def _fixed_fields(element: Element, lengths: dict[str, int]) -> list[tuple]:
    fields = []
    for p in element.properties:
        if p.count is None:
            fields.append((p.name, p.dtype))
        else:
            # a property name holds no blank, so these cannot collide
            fields.append((f"{p.name} length", p.count))
            if lengths[p.name]:
                fields.append((p.name, p.dtype, (lengths[p.name],)))
    return fields


def _first_lengths(file: BinaryIO, element: Element, at: int, size: int, path) -> dict[str, int]:
    lengths = {}
    if element.rows == 0:
        return {p.name: 0 for p in element.properties if p.count is not None}
    for p in element.properties:
        if p.count is None:
            at += p.dtype.itemsize
        else:
            lengths[p.name] = _length(file, p, at, size, path)
            at += p.count.itemsize + lengths[p.name] * p.dtype.itemsize
    return lengths


def _length(file: BinaryIO, p, at: int, size: int, path) -> int:
    file.seek(at)
    data = file.read(p.count.itemsize)
    length = int(np.frombuffer(data, p.count)[0]) if len(data) == p.count.itemsize else -1
    if not 0 <= length * p.dtype.itemsize <= size - at - p.count.itemsize:
        raise malformed(path, f"a list {p.name!r} inside the file", f"length {length} at byte {at}")
    return length


def _end_of(file: BinaryIO, element: Element, at: int, size: int, path) -> int:
    if element.rows * element.least_bytes > size - at:
        wanted = f"{element.rows} rows of element {element.name!r}"
        raise malformed(path, wanted, f"{size - at} bytes")
    if not element.has_lists or not element.rows:
        return at + element.rows * element.least_bytes
    lengths = _first_lengths(file, element, at, size, path)
    dtype = np.dtype(_fixed_fields(element, lengths))
    if element.rows * dtype.itemsize <= size - at:
        file.seek(at)
        rows = np.fromfile(file, dtype, element.rows)
        if all((rows[f"{name} length"] == length).all() for name, length in lengths.items()):
            return at + rows.nbytes
    return _walk(file, element, at, size, path, {})


def _walk(file: BinaryIO, element: Element, at: int, size: int, path, columns: dict) -> int:
    """Step through rows of unequal size, keep their numbers, return the byte after them."""
    for row in range(element.rows):
        for p in element.properties:
            if p.count is not None:
                at += p.count.itemsize + _length(file, p, at, size, path) * p.dtype.itemsize
                continue
            if p.name in columns:
                file.seek(at)
                data = file.read(p.dtype.itemsize)
                if len(data) < p.dtype.itemsize:
                    raise malformed(path, f"{element.rows} rows", f"the end in row {row + 1}")
                columns[p.name][row] = np.frombuffer(data, p.dtype)[0]
            at += p.dtype.itemsize
    if at > size:
        raise malformed(path, f"{element.rows} rows of {element.name!r}", "the end of the file")
    return at


def _read_ascii(path, header: Header) -> tuple[dict[str, np.ndarray], list[str]]:
    element = _vertex(header)
    place = header.elements.index(element)
    before = sum(other.rows for other in header.elements[:place] if other.properties)
    skip = header.lines
    if before:
        skip = _line_after(path, header.lines, before)
    if element.has_lists:
        columns, left_out = _ascii_lists(path, element, skip)
    else:
        # coordinates are parsed in double precision, whatever the header says
        dtypes = [
            np.dtype("f8") if p.name.lower() in ("x", "y", "z") else p.dtype
            for p in element.properties
        ]
        arrays = read_rows(path, dtypes, skip=skip, rows=element.rows)
        names = (p.name for p in element.properties)
        columns, left_out = dict(zip(names, arrays, strict=True)), []
    if place == len(header.elements) - 1:
        _refuse_more(path, skip, element.rows)
    return columns, left_out


def _lines(path, skip: int):
    with open(path, encoding="latin-1") as file:
        for number, line in enumerate(file):
            if number >= skip and line.strip():
                yield number, line


def _line_after(path, skip: int, rows: int) -> int:
    last = next(islice(_lines(path, skip), rows - 1, rows), None)
    if last is None:
        raise malformed(path, f"{rows} rows before the vertices", "the end of the file")
    return last[0] + 1


def _refuse_more(path, skip: int, rows: int) -> None:
    more = next(islice(_lines(path, skip), rows, rows + 1), None)
    if more is not None:
        raise malformed(path, f"the end of the file after {rows} vertices", printable(more[1]))


def _ascii_lists(path, element: Element, skip: int) -> tuple[dict[str, np.ndarray], list[str]]:
    values: dict[str, list] = {p.name: [] for p in element.properties}
    found = 0
    for _, line in islice(_lines(path, skip), element.rows):
        words = iter(line.split())
        try:
            for p in element.properties:
                kind = float if p.dtype.kind == "f" else int
                if p.count is None:
                    values[p.name].append(kind(next(words)))
                else:
                    length = int(next(words))
                    values[p.name].append([kind(next(words)) for _ in range(max(0, length))])
        except (StopIteration, ValueError) as error:
            raise malformed(path, f"a row of element {element.name!r}", printable(line)) from error
        if next(words, None) is not None:
            raise malformed(path, f"a row of element {element.name!r}", printable(line))
        found += 1
    if found != element.rows:
        raise malformed(path, f"{element.rows} vertices", f"{found}, then the end of the file")
    columns, left_out = {}, []
    for p in element.properties:
        dtype = np.dtype("f8") if p.name.lower() in ("x", "y", "z") else p.dtype
        if p.count is not None and len({len(item) for item in values[p.name]}) > 1:
            left_out.append(p.name)
        elif p.count is None or (found and values[p.name][0]):
            columns[p.name] = np.array(values[p.name], dtype)
    return columns, left_out
