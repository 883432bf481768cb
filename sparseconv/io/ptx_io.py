"""PTX: one or more scanner grids with their poses, read only."""

import os
from itertools import islice

import numpy as np

from sparseconv.io.ascii_rows import read_rows
from sparseconv.io.columns import gather
from sparseconv.io.errors import malformed, printable
from sparseconv.io.point_cloud import PointCloud

_NAMES = ("x", "y", "z", "intensity", "red", "green", "blue")


def read(path: str | os.PathLike) -> PointCloud:
    """Read every scan of a PTX file, in the frame of its 4 x 4 matrix.

    x' = [x y z 1] T, the matrix as its four lines stand. Empty cells of the grid (0 0 0) stay, so
    that rows match the file.

    Args:
        path: the file.

    Returns:
        The points of all scans in file order; with more than one scan `scan` is their number.

    Raises:
        FileFormatError: a header or a row is not PTX.
    """
    parts, skip = [], 0
    with open(path, encoding="latin-1") as file:
        total = sum(1 for line in file if line.strip())
    while skip < total:
        rows, matrix, width = _header(path, skip)
        if rows > total - skip - 10:
            raise malformed(path, f"{rows} rows after line {skip + 10}", total - skip - 10)
        dtypes = [np.dtype("f8")] * min(4, width) + [np.dtype("u1")] * (width - 4)
        columns = read_rows(path, dtypes, skip=skip + 10, rows=rows)
        xyz = np.stack(columns[:3], axis=1) @ matrix[:3, :3] + matrix[3, :3]
        parts.append([*xyz.T, *columns[3:]])
        skip += 10 + rows
    if len({len(part) for part in parts}) != 1:
        raise malformed(path, "scans with the same columns", [len(part) for part in parts])
    columns = dict(zip(_NAMES, map(np.concatenate, zip(*parts, strict=True)), strict=False))
    if len(parts) > 1:
        columns["scan"] = np.repeat(
            np.arange(len(parts), dtype=np.int32), [len(part[0]) for part in parts]
        )
    xyz, attributes = gather(columns, path)
    return PointCloud(xyz, attributes)


def _header(path, skip: int) -> tuple[int, np.ndarray, int]:
    with open(path, encoding="latin-1") as file:
        lines = [line.split() for line in islice(file, skip, skip + 11)]
    lengths = [len(words) for words in lines]
    if lengths[:10] != [1, 1, 3, 3, 3, 3, 4, 4, 4, 4]:
        wanted = "ten header lines of 1 1 3 3 3 3 4 4 4 4 numbers"
        raise malformed(path, wanted, f"{lengths[:10]} from line {skip + 1}")
    try:
        rows = int(lines[0][0]) * int(lines[1][0])
        matrix = np.array(lines[6:10], dtype=np.float64)
    except ValueError as error:
        raise malformed(path, "numbers in the header", printable(str(error), 80)) from error
    width = lengths[10] if len(lengths) > 10 and rows else 4
    if rows < 0 or width not in (4, 7) or not np.isfinite(matrix).all():
        raise malformed(path, "a grid, a finite matrix, rows of 4 or 7 numbers", f"{rows}, {width}")
    return rows, matrix, width
