"""Point-cloud files to PointCloud and back."""

from sparseconv.io.bin_io import read_labels, write_labels
from sparseconv.io.errors import FileFormatError
from sparseconv.io.point_cloud import PointCloud
from sparseconv.io.registry import (
    check_writable,
    read,
    readable_suffixes,
    writable_suffixes,
    write,
)

__all__ = [
    "FileFormatError",
    "PointCloud",
    "check_writable",
    "read",
    "read_labels",
    "readable_suffixes",
    "writable_suffixes",
    "write",
    "write_labels",
]
