"""Open the files a command names, and refuse early and clearly what cannot work."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sparseconv._errors import complain
from sparseconv.cli.fault import InputError

if TYPE_CHECKING:
    from sparseconv.io.point_cloud import PointCloud


def read_cloud(path: str | Path) -> PointCloud:
    """Return the points of a file.

    Args:
        path: the file.

    Returns:
        A cloud of at least one point, at least one of them finite.

    Raises:
        InputError: there is no such file, no reader for it, or no point in it.
    """
    import numpy as np

    from sparseconv.io.registry import read, readable_suffixes

    path = Path(path)
    check_file(path)
    known = sorted(readable_suffixes())
    if not path.name.lower().endswith(tuple(known)):
        raise InputError(
            complain(
                str(path),
                f"one of {' '.join(known)}",
                path.suffix or "no suffix",
                "convert it to one of these first",
            )
        )
    cloud = read(path)
    if len(cloud) == 0:
        raise InputError(complain(str(path), "at least one point", "none"))
    if not np.isfinite(cloud.xyz).all(axis=1).any():
        raise InputError(
            complain(
                str(path),
                "points with finite coordinates",
                f"{len(cloud):,} of which every one has NaN or infinity",
            )
        )
    return cloud


def check_file(path: Path) -> None:
    """Raise InputError unless `path` is a file that may be read."""
    if path.is_dir():
        raise InputError(complain(str(path), "a file", "a folder", "name one file in it"))
    if not path.exists():
        raise InputError(complain(str(path), "a file", "nothing there", "check the path"))
    if not os.access(path, os.R_OK):
        raise InputError(complain(str(path), "a file that may be read", "no permission"))


def check_target(path: Path, *, suffixes: tuple[str, ...], source: Path | None = None) -> None:
    """Raise InputError unless a file can be written at `path`.

    Args:
        path: the file to come.
        suffixes: the suffixes it may have.
        source: the file it is made from, which it must not replace.
    """
    if not path.name.lower().endswith(tuple(suffixes)):
        raise InputError(
            complain(
                str(path),
                f"one of {' '.join(sorted(suffixes))}",
                path.suffix or "no suffix",
                "name the output with one of these",
            )
        )
    if path.is_dir():
        raise InputError(complain(str(path), "a file to write", "a folder", "name a file in it"))
    if not path.parent.is_dir():
        cure = f"make it: mkdir -p {path.parent}"
        raise InputError(complain(str(path), "a folder to write into", "no such folder", cure))
    if source is not None and path.exists() and path.samefile(source):
        cure = "choose another name, so that the scan is not replaced"
        raise InputError(complain(str(path), "a new file", "the input itself", cure))
    # only trying tells: permission bits know nothing of read-only and full disks
    try:
        with tempfile.NamedTemporaryFile(prefix=".sparseconv.", dir=path.parent) as trial:
            trial.write(b"\0")
    except OSError as error:
        found = error.strerror.lower() if error.strerror else str(error)
        cure = "choose another place with -o"
        raise InputError(complain(str(path), "a folder to write into", found, cure)) from None


def check_cloud_target(path: Path, source: Path | None = None) -> None:
    """Raise InputError unless a point cloud can be written at `path`."""
    from sparseconv.io.registry import writable_suffixes

    check_target(path, suffixes=tuple(writable_suffixes()), source=source)


def use_threads(count: int | None) -> None:
    """Set the threads of torch, which this library's kernels follow; None leaves them."""
    if count is None:
        return
    import torch

    torch.set_num_threads(count)


def remark(text: str) -> None:
    """Tell the user something that is neither result nor error."""
    print(text, file=sys.stderr)
