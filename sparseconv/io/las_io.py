"""LAS, LAZ and COPC through laspy, every dimension kept."""

import copy
import os
from typing import BinaryIO

import numpy as np

from sparseconv._errors import complain
from sparseconv._optional import require
from sparseconv.io.columns import NUMBERS, gather, narrowed
from sparseconv.io.errors import FileFormatError, malformed
from sparseconv.io.las_header import check_header
from sparseconv.io.point_cloud import PointCloud

_BLOCK = 1 << 20
_EXACT = "_exact"
_WITH_COLOUR = {0: 2, 1: 3, 2: 2, 3: 3, 4: 5, 5: 5, 6: 7, 7: 7, 8: 8, 9: 10, 10: 10}


def read(path: str | os.PathLike) -> PointCloud:
    """Read a LAS or LAZ file (COPC is LAZ with an index).

    Coordinates are scaled and shifted in float64. Colours become `rgb` uint16 as stored; extra
    bytes keep their names.

    Args:
        path: the file.

    Returns:
        The points in file order; `meta["las"]` is the laspy header (scales, offsets, VLRs, CRS),
        `meta["unit"]` the unit of the coordinates where the file tells it.

    Raises:
        FileFormatError: the header claims what the file does not hold, or decoding fails.
    """
    laspy = require("laspy", extra="io")
    try:
        unit = check_header(path)
        with laspy.open(path) as reader:
            header = reader.header
            blocks, left = [], header.point_count
            # in blocks, so that memory follows what was decoded, not what was claimed
            while left > 0:
                block = reader.read_points(min(left, _BLOCK))
                if not len(block):
                    raise ValueError(f"{header.point_count - left} points, then the end")
                blocks.append(block.array)
                left -= len(block)
            header.evlrs = reader.evlrs
        array = np.concatenate(blocks) if blocks else np.zeros(0, header.point_format.dtype())
        record = laspy.ScaleAwarePointRecord(
            array, header.point_format, scales=header.scales, offsets=header.offsets
        )
        columns = {name: np.asarray(record[name]) for name in "xyz"}
        for name in record.point_format.dimension_names:
            if name not in ("X", "Y", "Z"):
                columns[name] = np.ascontiguousarray(record[name])
    except (OSError, ImportError, FileFormatError):
        raise
    except BaseException as error:
        # a panic of the Rust decoder is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        found = f"{type(error).__name__}: {error}".split("\n")[0][:160]
        raise malformed(path, "readable LAS points", found) from error
    for name in [n for n in columns if n.removesuffix(_EXACT) in columns and n.endswith(_EXACT)]:
        columns[name.removesuffix(_EXACT)] = columns.pop(name)
    xyz, attributes = gather(columns, path)
    return PointCloud(xyz, attributes, {"las": header, **({"unit": unit} if unit else {})})


def write(file: BinaryIO, path: str | os.PathLike, cloud: PointCloud) -> None:
    """Write LAS, or LAZ where the suffix says so.

    A cloud that came from LAS keeps its version, point format, scales, offsets, VLRs and CRS; its
    coordinates come back bit for bit. Any other cloud gets LAS 1.4, format 6 or 7, and the finest
    decimal scale (not below 1e-6) that its extent allows. 8-bit colours are multiplied by 257.
    `label` and `confidence` are extra dimensions; `classification` is not touched. A standard
    dimension that cannot hold an attribute (intensity in floats) leaves it to an extra dimension
    `<name>_exact`, which `read` puts back.

    Args:
        file: open for writing.
        path: its name; decides about compression.
        cloud: what to write.

    Raises:
        ValueError: coordinates are not finite or too far apart, or a name exceeds 32 bytes.
    """
    laspy = require("laspy", extra="io")
    if not np.isfinite(cloud.xyz).all():
        cure = "drop those points with cloud.select, or write .ply or .pcd"
        raise ValueError(complain("xyz", "finite coordinates for LAS", "NaN or infinity", cure))
    header = _header(laspy, cloud)
    columns = _columns(cloud)
    standard = set(header.point_format.standard_dimension_names)
    for name in header.point_format.extra_dimension_names:
        if name not in columns:
            header.remove_extra_dim(name)
    scaled = {d.name for d in header.point_format.extra_dimensions if d.is_scaled}
    stored: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        probe = laspy.ScaleAwarePointRecord.zeros(1, header=header)
        if name in standard and not _fits(probe, header, name, values):
            name += _EXACT
        if name not in standard and name not in scaled:
            values = _extra(laspy, header, name, values)
        stored[name] = values
    record = laspy.ScaleAwarePointRecord.zeros(len(cloud), header=header)
    for axis, name in enumerate(("X", "Y", "Z")):
        record[name] = np.rint((cloud.xyz[:, axis] - header.offsets[axis]) / header.scales[axis])
    for name, values in stored.items():
        record[name] = values
    las = laspy.LasData(header, record)
    if header.version.minor >= 4:
        las.evlrs = header.evlrs
    las.write(file, do_compress=os.fspath(path).lower().endswith(".laz"))


def check(path: str | os.PathLike, names: list[str]) -> None:
    """Refuse, before the work, names that LAS cannot carry and the COPC layout.

    Args:
        path: the file to be written.
        names: attribute names.

    Raises:
        ValueError: the name of the file or of an attribute does not fit.
    """
    require("laspy", extra="io")
    if os.fspath(path).lower().endswith(".copc.laz"):
        cure = "write .laz and index it with untwine or pdal"
        raise ValueError(complain(os.fspath(path), "a writable suffix", ".copc.laz", cure))
    for name in names:
        _check_name(name)


def _check_name(name: str) -> None:
    if len(name.encode()) > 32:
        cure = "rename it or write .ply or .npz"
        raise ValueError(complain(f"attribute {name!r}", "at most 32 bytes for LAS", name, cure))


def _header(laspy, cloud: PointCloud):
    given = cloud.meta.get("las")
    if given is not None:
        header = copy.deepcopy(given)
        header.vlrs = type(header.vlrs)([v for v in header.vlrs if v.user_id != "copc"])
        kept = [v for v in header.evlrs or [] if v.user_id != "copc"]
        header.evlrs = type(header.evlrs)(kept) if header.evlrs is not None else None
        if header.version.minor == 0:
            header.set_version_and_point_format(laspy.header.Version(1, 2), header.point_format)
    else:
        header = laspy.LasHeader(version="1.4", point_format=6)
        header.scales, header.offsets = _grid(cloud.xyz)
    form = header.point_format.id
    if "rgb" in cloud.attributes and _WITH_COLOUR[form] != form:
        form = laspy.PointFormat(_WITH_COLOUR[form])
        for extra in header.point_format.extra_dimensions:
            form.dimensions.append(extra)
        header.set_version_and_point_format(header.version, form)
    if len(cloud):
        far = np.abs((cloud.xyz - header.offsets) / header.scales).max()
        if far > 2**31 - 1:
            header.scales, header.offsets = _grid(cloud.xyz)
    return header


def _grid(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(xyz):
        return np.full(3, 1e-3), np.zeros(3)
    offsets = np.floor((xyz.min(axis=0) + xyz.max(axis=0)) / 2)
    extent = np.abs(xyz - offsets).max(axis=0)
    exponent = np.ceil(np.log10(np.maximum(extent, 1e-300) / (2**31 - 1)))
    if exponent.max() > -3:
        cure = "write .ply, or drop the outliers"
        raise ValueError(complain("xyz", "an extent below 4000 km for LAS", extent.max(), cure))
    return np.array([float(f"1e{int(e)}") for e in np.maximum(exponent, -6)]), offsets


def _columns(cloud: PointCloud) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    for own, values in cloud.attributes.items():
        # numpy allows no colon in a field that is written as a buffer; `gather` turns it back
        name = own.replace(":", "%3A")
        if name == "rgb":
            wide = values if values.dtype == np.uint16 else values.astype(np.uint16) * 257
            columns.update(zip(("red", "green", "blue"), wide.T, strict=True))
        elif name == "normal":
            columns.update(zip(("nx", "ny", "nz"), values.T, strict=True))
        elif values.ndim == 2 and values.shape[1] > 3:
            columns.update({f"{name}[{k}]": values[:, k] for k in range(values.shape[1])})
        else:
            columns[name] = values
    return columns


def _fits(probe, header, name: str, values: np.ndarray) -> bool:
    if values.ndim != 1:
        return False
    info = header.point_format.dimension_by_name(name)
    if values.dtype.kind == "f":
        return np.asarray(probe[name]).dtype == values.dtype
    if values.dtype.kind == "b" or info.min is None:
        return False
    return len(values) == 0 or (info.min <= values.min() and values.max() <= info.max)


def _extra(laspy, header, name: str, values: np.ndarray) -> np.ndarray:
    _check_name(name)
    values = narrowed(values, NUMBERS, name, "write .npz")
    width = values.shape[1] if values.ndim == 2 else 1
    known = [d for d in header.point_format.extra_dimensions if d.name == name]
    if known and known[0].dtype == np.dtype(
        (values.dtype, (width,)) if width > 1 else values.dtype
    ):
        return values
    if known:
        header.remove_extra_dim(name)
    kind = values.dtype.str[1:]
    kind = f"{width}{kind}" if width > 1 else kind
    header.add_extra_dim(laspy.ExtraBytesParams(name=name, type=kind))
    return values
