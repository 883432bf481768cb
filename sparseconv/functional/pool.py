"""Pooling of sparse tensors: maximum, average, sum, and the way back."""

from __future__ import annotations

import torch

from sparseconv._errors import complain
from sparseconv.geometry import Geometry
from sparseconv.ops.aggregate import aggregate
from sparseconv.ops.pool import pool_max
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.sparse_tensor import SparseTensor


def _window(x: SparseTensor, geometry: Geometry) -> tuple[str, Rulebook, int]:
    level = x.topology.down(x.level, geometry)
    book = x.topology.rulebook(x.level, level, geometry)
    return level, book, x.topology.levels[level].coords.shape[0]


def max_pool3d(x: SparseTensor, geometry: Geometry) -> SparseTensor:
    """Take the maximum over the active sites of each window, empty ones not counting as 0.

    Args:
        x: [N, C].
        geometry: the windows.

    Returns:
        [M, C] at every site whose window meets an active site.
    """
    level, book, num_out = _window(x, geometry)
    features, _ = pool_max(x.features, book.in_rows, book.out_rows, num_out)
    return SparseTensor.at(x.topology, level, features)


def max_pool3d_at_sites(x: SparseTensor, geometry: Geometry) -> SparseTensor:
    """Take the maximum over each site and its active neighbours, empty ones not counting as 0.

    Args:
        x: [N, C].
        geometry: of a window around each site; its stride is 1.

    Returns:
        [N, C] at the sites of `x`.
    """
    book = x.topology.rulebook(x.level, x.level, geometry)
    features, _ = pool_max(x.features, book.in_rows, book.out_rows, x.features.shape[0])
    return x.replace(features=features)


def sum_pool3d(x: SparseTensor, geometry: Geometry) -> SparseTensor:
    """Sum over the active sites of each window: [N, C] to [M, C]."""
    level, book, num_out = _window(x, geometry)
    features = aggregate(x.features, book.in_rows, book.out_rows, None, num_out)
    return SparseTensor.at(x.topology, level, features)


def avg_pool3d(x: SparseTensor, geometry: Geometry, count: str = "present") -> SparseTensor:
    """Average over each window.

    Args:
        x: [N, C].
        geometry: the windows.
        count: divide by the active sites of the window (`"present"`), or by all its taps
            (`"kernel"`, what `torch.nn.functional.avg_pool3d` does to the zero-filled grid).

    Returns:
        [M, C].

    Raises:
        ValueError: no such `count`.
    """
    if count not in ("present", "kernel"):
        raise ValueError(complain("count", "'present' or 'kernel'", repr(count)))
    level, book, num_out = _window(x, geometry)
    total = aggregate(x.features, book.in_rows, book.out_rows, None, num_out)
    if count == "kernel":
        return SparseTensor.at(x.topology, level, total / geometry.taps)
    sites = torch.zeros(num_out, dtype=torch.int64, device=total.device)
    sites = sites.index_add(0, book.out_rows, torch.ones_like(book.out_rows, dtype=torch.int64))
    return SparseTensor.at(x.topology, level, total / sites[:, None].to(total.dtype))


def unpool3d(x: SparseTensor) -> SparseTensor:
    """Copy each site's features to the sites its pooling or strided convolution came from.

    `y[i] = sum over windows o that hold i of x[o]`; with windows that do not overlap, each site
    gets its own window's features.

    Args:
        x: [M, C], at sites that a strided convolution or pooling made.

    Returns:
        [N, C] at the sites before it.

    Raises:
        ValueError: the sites of `x` were not made by a convolution or pooling.
    """
    source, geometry = x.topology.origin(x.level)
    book = x.topology.rulebook(source, x.level, geometry)
    num_out = x.topology.levels[source].coords.shape[0]
    features = aggregate(x.features, book.out_rows, book.in_rows, None, num_out)
    return SparseTensor.at(x.topology, source, features)
