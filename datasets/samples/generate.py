"""Make the sample scans of this folder again: python datasets/samples/generate.py [--out FOLDER].

The files are written here byte by byte and not by `sparseconv.io`, so that they can test its
readers. One machine and one NumPy give the same bytes each time; another NumPy or processor may
round a sine differently, which moves single rays.
"""

import argparse
import struct
from pathlib import Path

import numpy as np

from sparseconv.datasets.procedural.room import generate_room
from sparseconv.datasets.procedural.street import generate_street
from sparseconv.io.point_cloud import PointCloud

# beyond the seeds of every dataset of the library: no network was trained on these
ROOM_SEED, CORNER_SEED, STREET_SEED = 10_000_064, 10_000_091, 10_000_007


def packed(cloud: PointCloud, *, label: bool) -> np.ndarray:
    """Return x, y, z float32, r, g, b uint8 and, if wanted, label uint8 as packed rows."""
    names = [(axis, "<f4") for axis in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")]
    rows = np.zeros(len(cloud), names + ([("label", "u1")] if label else []))
    for column, axis in enumerate("xyz"):
        rows[axis] = cloud.xyz[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        rows[name] = cloud.attributes["rgb"][:, column]
    if label:
        rows["label"] = cloud.attributes["label"]
    return rows


def ply(cloud: PointCloud) -> bytes:
    """Return a binary little-endian PLY file with colours and without labels."""
    rows = packed(cloud, label=False)
    kinds = {"<f4": "float", "|u1": "uchar"}
    fields = [f"property {kinds[rows.dtype[name].str]} {name}" for name in rows.dtype.names]
    head = ["ply", "format binary_little_endian 1.0", "comment sparseconv procedural room"]
    head += [f"element vertex {len(rows)}", *fields, "end_header", ""]
    return "\n".join(head).encode() + rows.tobytes()


def pcd(cloud: PointCloud) -> bytes:
    """Return a binary PCD 0.7 file with packed colours and labels."""
    rows = np.zeros(
        len(cloud), [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4"), ("label", "<u4")]
    )
    for column, axis in enumerate("xyz"):
        rows[axis] = cloud.xyz[:, column]
    red, green, blue = cloud.attributes["rgb"].astype(np.uint32).T
    rows["rgb"] = (red << 16) | (green << 8) | blue
    rows["label"] = cloud.attributes["label"]
    head = ["# .PCD v0.7 - Point Cloud Data file format", "VERSION 0.7", "FIELDS x y z rgb label"]
    head += ["SIZE 4 4 4 4 4", "TYPE F F F U U", "COUNT 1 1 1 1 1", f"WIDTH {len(rows)}"]
    head += ["HEIGHT 1", "VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {len(rows)}", "DATA binary", ""]
    return "\n".join(head).encode() + rows.tobytes()


def las(cloud: PointCloud) -> bytes:
    """Return a LAS 1.2 file, point format 0, in centimetres; classification holds the label."""
    step = 0.01
    offset = np.floor(cloud.xyz.min(0))
    whole = np.rint((cloud.xyz - offset) / step).astype("<i4")
    rows = np.zeros(
        len(cloud),
        [
            ("xyz", "<i4", 3),
            ("intensity", "<u2"),
            ("flags", "u1"),
            ("classification", "u1"),
            ("angle", "i1"),
            ("user", "u1"),
            ("source", "<u2"),
        ],
    )
    rows["xyz"], rows["flags"] = whole, 0b00001001
    rows["intensity"] = np.rint(cloud.attributes["intensity"] * 65535)
    rows["classification"] = cloud.attributes["label"]
    back = whole * step + offset
    head = struct.pack(
        "<4sHH16sBB32s32sHHH", b"LASF", 0, 0, b"", 1, 2, b"", b"sparseconv", 1, 2026, 227
    )
    head += struct.pack("<IIBHI5I", 227, 0, 0, rows.itemsize, len(rows), len(rows), 0, 0, 0, 0)
    bounds = np.stack([back.max(0), back.min(0)], 1).reshape(-1)
    head += struct.pack("<12d", step, step, step, *offset, *bounds)
    return head + rows.tobytes()


def files() -> dict[str, bytes]:
    """Return the contents of every sample by its name."""
    room = generate_room(ROOM_SEED, cameras=6, spacing=0.021)
    corner = generate_room(CORNER_SEED, cameras=1, spacing=0.05)
    street = generate_street(STREET_SEED, beams=64, steps=2000)
    ahead = np.abs(np.arctan2(street.xyz[:, 1], street.xyz[:, 0])) < np.radians(50)
    front = street.select(ahead)
    scan = np.concatenate([front.xyz, front.attributes["intensity"][:, None]], 1).astype("<f4")
    small = generate_street(STREET_SEED + 1, beams=32, steps=300)
    return {
        "room.ply": ply(room),
        "room.label": room.attributes["label"].astype("<u4").tobytes(),
        "corner.pcd": pcd(corner),
        "street.bin": scan.tobytes(),
        "street.label": front.attributes["label"].astype("<u4").tobytes(),
        "street.las": las(small),
    }


def main() -> None:
    """Write the samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, contents in files().items():
        (out / name).write_bytes(contents)


if __name__ == "__main__":
    main()
