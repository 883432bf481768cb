"""`sparseconv info`: what is in a scan, and what it costs to work on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparseconv.cli.columns import columns, size
from sparseconv.cli.fault import UsageError
from sparseconv.cli.options import length
from sparseconv.cli.source import read_cloud

if TYPE_CHECKING:
    import numpy as np

    from sparseconv.io.point_cloud import PointCloud

# an axis is shown in this many digits after the point
DIGITS = 3


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "info",
        help="describe a scan",
        description="Describe a scan: points, fields, extent, voxels and neighbours at a voxel "
        "size, and the memory that a network will need.",
    )
    parser.add_argument("scan", nargs="?", help="the scan to read")
    parser.add_argument(
        "--voxel",
        type=length,
        action="append",
        metavar="SIZE",
        help="edge of a voxel in the unit of the scan; may be given several times",
    )
    parser.add_argument(
        "--system", action="store_true", help="describe this installation instead of a scan"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Describe one scan, or the installation."""
    if args.system:
        print(columns(system_rows()))
        return
    if args.scan is None:
        raise UsageError(
            "sparseconv info: the following arguments are required: scan; "
            "see sparseconv info --help"
        )
    from sparseconv.cli.cost import costs, telling_sizes

    path = Path(args.scan)
    cloud = read_cloud(path)
    low, high, finite = extent(cloud.xyz)
    print(f"{path}: {len(cloud):,} points, {size(path.stat().st_size)}")
    if finite < len(cloud):
        print(f"{len(cloud) - finite:,} points have NaN or infinite coordinates")
    print()
    axes = [
        (
            axis,
            f"{low[i]:.{DIGITS}f}",
            f"{high[i]:.{DIGITS}f}",
            f"{high[i] - low[i]:.{DIGITS}f}",
        )
        for i, axis in enumerate("xyz")
    ]
    print(columns(axes, header=("axis", "from", "to", "extent"), right=(1, 2, 3)))
    for note in unit_notes(cloud, low, high):
        print(f"note: {note}")
    print()
    print(columns(field_rows(cloud), header=("field", "type", "from", "to"), right=(2, 3)))
    print()
    sizes = args.voxel or telling_sizes(cloud.xyz)
    rows = [
        (
            f"{cost.voxel:g}",
            f"{cost.voxels:,}",
            f"{finite / cost.voxels:.2f}",
            f"{cost.neighbours:.2f}",
            size(cost.small),
            size(cost.standard),
        )
        for cost in costs(cloud, sizes)
    ]
    header = ("voxel", "voxels", "points a voxel", "neighbours", "small net", "standard net")
    print(columns(rows, header=header, right=range(6)))
    print("neighbours: occupied voxels of the 3 x 3 x 3 around one, itself included")
    print("nets: memory of MinkUNetSmall and MinkUNet for one prediction, estimated")


def system_rows() -> list[tuple[str, str]]:
    """Return what this installation runs on: versions, kernels, processor, threads."""
    import torch

    from sparseconv import __version__
    from sparseconv.backends import native_missing
    from sparseconv.bench.machine import describe_machine

    found = {"sparseconv": __version__, **describe_machine(), "threads": torch.get_num_threads()}
    if native_missing():
        found["reason"] = native_missing()
    return [(name.replace("_", " "), str(value)) for name, value in found.items()]


def extent(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the lowest and the highest finite coordinates [3], and how many points are finite."""
    import numpy as np

    finite = xyz[np.isfinite(xyz).all(axis=1)]
    return finite.min(axis=0), finite.max(axis=0), len(finite)


def field_rows(cloud: PointCloud) -> list[tuple[str, str, str, str]]:
    """Return name, type and range of every attribute."""
    import numpy as np

    rows = []
    for name, values in cloud.attributes.items():
        shape = f" x {values.shape[1]}" if values.ndim > 1 else ""
        known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        ranged = known.size > 0 and known.dtype.kind in "biuf"
        ends = (_number(known.min()), _number(known.max())) if ranged else ("-", "-")
        rows.append((name, f"{values.dtype}{shape}", *ends))
    return rows or [("none", "", "", "")]


def _number(value: np.generic) -> str:
    if value.dtype.kind == "f" and abs(value) < 1e5:
        return f"{value:g}"
    return f"{value:.3f}" if value.dtype.kind == "f" and abs(value) < 1e15 else str(value)


def unit_notes(cloud: PointCloud, low: np.ndarray, high: np.ndarray) -> list[str]:
    """Return what the coordinates say about their unit."""
    import numpy as np

    notes = []
    unit = cloud.meta.get("unit")
    if unit:
        notes.append(f"the file says that its unit is the {unit}; voxel sizes are in it, too")
    if np.abs([low[:2], high[:2]]).max() > 1e5:
        notes.append(
            "map coordinates (as UTM or state plane, in metres or feet): they need float64"
        )
    span = high - low
    if span[2] > 200 and span.max() < 20000 and np.abs([low, high]).max() < 20000:
        notes.append("tall for metres: perhaps millimetres or centimetres")
    return notes
