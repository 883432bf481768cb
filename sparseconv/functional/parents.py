"""Parents: the blocks of voxels that hold active sites, means over them, and copies to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.functional.taps import taps_present
from sparseconv.geometry import Geometry, Triple, triple
from sparseconv.ops.aggregate import aggregate
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.topology import Topology


def blocks(shape: Triple | None, size: int | Sequence[int]) -> Geometry:
    """Return the geometry of blocks that cover a lattice, the last one of an axis perhaps in part.

    Args:
        shape: extent of the lattice in voxels, or None.
        size: of a block, voxels.

    Returns:
        Kernel size and stride are `size`; site q belongs to block `floor(q / size)`.
    """
    step = triple("size", size, least=1)
    over = (0, 0, 0) if shape is None else tuple(-n % s for n, s in zip(shape, step, strict=True))
    return Geometry(step, step, (0, 0, 0), (1, 1, 1), over)


def parents(x: SparseTensor, size: int | Sequence[int]) -> str:
    """Return the name of the level of the blocks that hold a site of `x`."""
    return x.topology.down(x.level, blocks(x.spatial_shape, size))


def block_pairs(
    topology: Topology, source: str, target: str, size: int | Sequence[int]
) -> Rulebook:
    """Return the pairs of sites and blocks, of levels whose lattices differ by `size`."""
    geometry = blocks(topology.levels[source].spatial_shape, size)
    return topology.rulebook(source, target, geometry)


def block_mean(
    x: SparseTensor,  # [N, C]
    size: int | Sequence[int],
    level: str | None = None,
    count: str = "present",
) -> SparseTensor:  # [M, C]
    """Average over the active sites of each block.

    Args:
        x: [N, C].
        size: of a block, voxels.
        level: name of the level of the blocks; None for `parents(x, size)`.
        count: divide by the active sites of the block (`"present"`), or by its voxels (`"kernel"`).

    Returns:
        [M, C] at the blocks.

    Raises:
        ValueError: no such `count`.
    """
    if count not in ("present", "kernel"):
        raise ValueError(complain("count", "'present' or 'kernel'", repr(count)))
    target = parents(x, size) if level is None else level
    book = block_pairs(x.topology, x.level, target, size)
    num_out = x.topology.levels[target].coords.shape[0]
    total = aggregate(x.features, book.in_rows, book.out_rows, None, num_out)
    if count == "kernel":
        return SparseTensor.at(x.topology, target, total / book.taps)
    sites = book.pair_counts(num_out)
    return SparseTensor.at(x.topology, target, total / sites[:, None].to(total.dtype))


def block_centre(
    x: SparseTensor,  # [N, C]
    stride: Triple,
) -> SparseTensor:  # [M, C]
    """Return of each block the features of its first voxel, or their mean where that is absent.

    That voxel, site `o * stride`, is the one a strided dense layer reads.

    Args:
        x: [N, C].
        stride: size of a block, voxels.

    Returns:
        [M, C] at `parents(x, stride)`.
    """
    mean = block_mean(x, stride)
    book = x.topology.rulebook(x.level, mean.level, Geometry.make(1, stride))
    count = mean.features.shape[0]
    first = aggregate(x.features, book.in_rows, book.out_rows, None, count)
    there = taps_present(book, count)
    return mean.replace(features=torch.where(there, first, mean.features))


def to_children(
    features: Tensor,  # [M, C]
    topology: Topology,
    source: str,
    target: str,
    size: int | Sequence[int],
) -> Tensor:  # [N, C]
    """Copy the features of each block, at level `target`, to its sites, at level `source`."""
    book = block_pairs(topology, source, target, size)
    num_out = topology.levels[source].coords.shape[0]
    return aggregate(features, book.out_rows, book.in_rows, None, num_out)
