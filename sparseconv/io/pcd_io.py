"""PCD 0.5 to 0.7: ascii, binary and binary_compressed, every field kept with its type."""

import os
from typing import BinaryIO

import numpy as np

from sparseconv._errors import complain
from sparseconv.io.ascii_rows import read_rows
from sparseconv.io.columns import NUMBERS, gather, narrowed, native, word, xyz_dtype
from sparseconv.io.errors import malformed
from sparseconv.io.lzf import decompress
from sparseconv.io.pcd_header import Header, read_header
from sparseconv.io.point_cloud import PointCloud


def read(path: str | os.PathLike) -> PointCloud:
    """Read a PCD file.

    Points with NaN coordinates stay, in order. A packed `rgb` or `rgba` field, integer or
    bit-cast float, becomes `rgb` (and `alpha`); a field of COUNT k becomes [N, k]; fields named
    `_` are padding and left out. Coordinates of ascii files keep all their digits.

    Args:
        path: the file.

    Returns:
        The points in file order; an organised cloud keeps `meta["width"]` and `meta["height"]`.

    Raises:
        FileFormatError: the header is no PCD header, or data are missing or too many.
    """
    header = read_header(path)
    reader = {"ascii": _ascii, "binary": _binary, "binary_compressed": _compressed}[header.data]
    arrays = reader(path, header)
    columns: dict[str, np.ndarray] = {}
    for name, count, array in zip(header.names, header.counts, arrays, strict=True):
        if name != "_":
            columns[name] = array[:, 0] if count == 1 else array
    meta = _meta(header)
    for name in [n for n in columns if n.lower() in ("rgb", "rgba")]:
        columns = _unpack(columns, name, meta)
    xyz, attributes = gather(columns, path)
    return PointCloud(xyz, attributes, meta)


def write(file: BinaryIO, path: str | os.PathLike, cloud: PointCloud) -> None:
    """Write a binary PCD 0.7 file.

    Args:
        file: open for writing.
        path: its name, for errors.
        cloud: what to write; 8-bit colours are packed into `rgb` (with `alpha`: `rgba`), 16-bit
            colours become fields red, green, blue.

    Raises:
        ValueError: an attribute has values PCD cannot hold, or two fields would get one name.
    """
    fields: list[tuple[str, np.ndarray]] = [(axis, cloud.xyz[:, k]) for k, axis in enumerate("xyz")]
    attributes = dict(cloud.attributes)
    rgb = attributes.get("rgb")
    if rgb is not None and rgb.dtype == np.uint8:
        attributes = _packed(attributes, cloud.meta.get("rgb_field", "F"))
    for name, values in attributes.items():
        if name == "normal":
            fields += [(f"normal_{axis}", values[:, k]) for k, axis in enumerate("xyz")]
        elif name == "rgb" and values.ndim == 2:
            fields += [(colour, values[:, k]) for k, colour in enumerate(("red", "green", "blue"))]
        else:
            fields.append((word(name), values))
    names = [name for name, _ in fields]
    for name in names:
        if names.count(name) > 1 or name == "_":
            raise ValueError(complain("attributes", "distinct fields", name, "rename it"))
    dtypes = []
    for at, (name, values) in enumerate(fields):
        cure = "convert the attribute or write .npz"
        fields[at] = (name, values if at < 3 else narrowed(values, NUMBERS, name, cure))
        dtype = xyz_dtype(cloud) if at < 3 else fields[at][1].dtype.newbyteorder("<")
        dtypes.append((name, dtype, values.shape[1:]))
    rows = np.empty(len(cloud), np.dtype(dtypes))
    for name, values in fields:
        rows[name] = values
    width, height = cloud.meta.get("width", len(cloud)), cloud.meta.get("height", 1)
    if width * height != len(cloud):
        width, height = len(cloud), 1
    kinds = {"i": "I", "u": "U", "f": "F"}
    lines = {
        "VERSION": "0.7",
        "FIELDS": " ".join(names),
        "SIZE": " ".join(str(dtype.itemsize) for _, dtype, _ in dtypes),
        "TYPE": " ".join(kinds[dtype.kind] for _, dtype, _ in dtypes),
        "COUNT": " ".join(str(shape[0] if shape else 1) for _, _, shape in dtypes),
        "WIDTH": width,
        "HEIGHT": height,
        "VIEWPOINT": cloud.meta.get("viewpoint", "0 0 0 1 0 0 0"),
        "POINTS": len(cloud),
        "DATA": "binary",
    }
    text = "".join(f"{key} {value}\n" for key, value in lines.items())
    file.write(("# .PCD v0.7 - Point Cloud Data file format\n" + text).encode("ascii"))
    file.write(rows.data if len(rows) else b"")


def _meta(header: Header) -> dict:
    coordinates = [
        dtype
        for name, dtype in zip(header.names, header.dtypes, strict=True)
        if name.lower() in ("x", "y", "z")
    ]
    single = header.data != "ascii" and all(dtype == "<f4" for dtype in coordinates)
    meta = {"xyz_dtype": "float32" if single else "float64"}
    height = int(header.values.get("HEIGHT", ["1"])[0])
    if height > 1:
        meta.update(width=header.points // height, height=height)
    if len(header.values.get("VIEWPOINT", ())) == 7:
        meta["viewpoint"] = " ".join(header.values["VIEWPOINT"])
    return meta


def _binary(path, header: Header) -> list[np.ndarray]:
    dtype = np.dtype(
        [
            (str(at), kind, (count,))
            for at, (kind, count) in enumerate(zip(header.dtypes, header.counts, strict=True))
        ]
    )
    room = os.path.getsize(path) - header.size
    if not header.points * dtype.itemsize <= room < (header.points + 1) * dtype.itemsize:
        wanted = f"{header.points} points of {dtype.itemsize} bytes after the header"
        raise malformed(path, wanted, f"{room} bytes")
    with open(path, "rb") as file:
        file.seek(header.size)
        rows = np.fromfile(file, dtype, header.points)
    return [
        rows[name] if rows[name].dtype.kind == "V" else native(rows[name]) for name in dtype.names
    ]


def _compressed(path, header: Header) -> list[np.ndarray]:
    widths = [d.itemsize * c for d, c in zip(header.dtypes, header.counts, strict=True)]
    wanted = header.points * sum(widths)
    with open(path, "rb") as file:
        file.seek(header.size)
        sizes = np.frombuffer(file.read(8).ljust(8, b"\0"), "<u4")
        data = file.read()
    # no LZF token makes more than 264 bytes out of 3
    if sizes[1] != wanted or sizes[0] > len(data) or wanted > 88 * len(data):
        found = f"sizes {sizes.tolist()}, then {len(data)} bytes"
        raise malformed(path, f"compressed data for {wanted} bytes of points", found)
    try:
        plain = decompress(data[: int(sizes[0])], wanted)
    except ValueError as error:
        raise malformed(path, f"LZF data for {wanted} bytes", error) from error
    arrays, at = [], 0
    for dtype, count, width in zip(header.dtypes, header.counts, widths, strict=True):
        values = np.frombuffer(plain, dtype, header.points * count, at)
        arrays.append(
            values.reshape(-1, count) if dtype.kind == "V" else native(values.reshape(-1, count))
        )
        at += header.points * width
    return arrays


def _ascii(path, header: Header) -> list[np.ndarray]:
    dtypes: list[np.dtype] = []
    for name, dtype, count in zip(header.names, header.dtypes, header.counts, strict=True):
        # coordinates are parsed in double precision, whatever the header says
        double = name.lower() in ("x", "y", "z") or dtype.kind == "V"
        dtypes += [np.dtype("f8") if double else dtype.newbyteorder("=")] * count
    delimiter = None
    with open(path, encoding="latin-1") as file:
        rows = [line for at, line in enumerate(file) if at >= header.lines and line.strip()]
    if len(rows) != header.points:
        raise malformed(path, f"{header.points} rows after the header", f"{len(rows)} rows")
    if rows and "," in rows[0]:
        delimiter = ","
    del rows
    options = {"skip": header.lines, "rows": header.points, "delimiter": delimiter}
    columns = read_rows(path, dtypes, **options)
    arrays, at = [], 0
    for count in header.counts:
        arrays.append(np.stack(columns[at : at + count], axis=1))
        at += count
    return arrays


def _unpack(columns: dict[str, np.ndarray], name: str, meta: dict) -> dict[str, np.ndarray]:
    """Return the columns with one packed colour field as `rgb` and, where it is used, `alpha`."""
    packed = columns[name]
    if packed.ndim != 1 or "rgb" in {n for n in columns if n != name}:
        return columns
    if packed.dtype.kind in "iu" and packed.dtype.itemsize >= 4:
        bits = (packed.astype(np.int64) & 0xFFFFFFFF).astype(np.uint32)
    elif packed.dtype == np.float32:
        bits = packed.view(np.uint32)
    else:
        return columns
    parts = np.ascontiguousarray(bits.astype("<u4")).view(np.uint8).reshape(-1, 4)
    meta["rgb_field"] = "F" if packed.dtype.kind == "f" else "U"
    unpacked: dict[str, np.ndarray] = {}
    for own, values in columns.items():
        if own != name:
            unpacked[own] = values
            continue
        unpacked["rgb"] = np.ascontiguousarray(parts[:, 2::-1])
        if (name.lower() == "rgba" or parts[:, 3].any()) and "alpha" not in columns:
            unpacked["alpha"] = parts[:, 3].copy()
    return unpacked


def _packed(attributes: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    rgb, alpha = attributes["rgb"], attributes.get("alpha")
    with_alpha = alpha is not None and alpha.dtype == np.uint8 and alpha.ndim == 1
    parts = np.zeros((len(rgb), 4), np.uint8)
    parts[:, 2::-1] = rgb
    if with_alpha:
        parts[:, 3] = alpha
    bits = parts.view("<u4")[:, 0]
    field = ("rgba", bits) if with_alpha else ("rgb", bits.view("<f4") if kind == "F" else bits)
    kept = {}
    for name, values in attributes.items():
        if name == "rgb":
            kept[field[0]] = field[1]
        elif not (name == "alpha" and with_alpha):
            kept[name] = values
    return kept
