"""Which model of the package suits a scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sparseconv.io.point_cloud import PointCloud

# most rooms and flats are smaller, most LiDAR scans of streets far larger
LARGEST_INDOOR = 25.0


def choose_model(cloud: PointCloud, path: str | Path | None = None) -> tuple[str, str]:
    """Return the name of a model and why it was chosen.

    Streets: files of raw LiDAR returns (`.bin`), scans with a number of the ring, and scans of
    which 96 % of the points spread over more than 25 m. Rooms: all others.

    Args:
        cloud: the scan.
        path: its file.

    Returns:
        `"rooms"` or `"streets"`, and the reason in words.
    """
    suffix = Path(path).suffix.lower() if path is not None else ""
    if suffix == ".bin":
        return "streets", "a .bin file holds LiDAR returns"
    if "ring" in cloud.attributes:
        return "streets", "its points have a ring number, as of a spinning LiDAR"
    xyz = cloud.xyz[np.isfinite(cloud.xyz).all(1)]
    if len(xyz) == 0:
        return "rooms", "it has no finite points to judge by"
    extent = float(np.ptp(np.percentile(xyz, [2, 98], axis=0), axis=0).max())
    extent *= metres_per_unit(cloud)
    name = "streets" if extent > LARGEST_INDOOR else "rooms"
    return name, f"it extends over {extent:.1f} m"


def metres_per_unit(cloud: PointCloud) -> float:
    """Return how many metres one unit of the coordinates is, 1 where the file does not tell."""
    feet = {"foot": 0.3048, "us-survey-foot": 1200 / 3937}
    return feet.get(cloud.meta.get("unit"), 1.0)
