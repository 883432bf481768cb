"""Between sparse tensors and full grids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.geometry import triple
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.topology import ROOT, Level, Topology


def to_dense(
    x: SparseTensor,
    spatial_shape: int | Sequence[int] | None = None,
    origin: int | Sequence[int] = 0,
) -> Tensor:  # [B, C, X, Y, Z]
    """Write a sparse tensor on a full grid, zeros elsewhere.

    Args:
        x: [N, C].
        spatial_shape: extent of the grid in voxels; None for `x.spatial_shape`, or, where that is
            None too, just enough for the sites.
        origin: site at the grid's corner, voxels; negative for negative coordinates.

    Returns:
        [B, C, X, Y, Z], differentiable.

    Raises:
        ValueError: a site lies outside the grid.
    """
    shape = x.spatial_shape if spatial_shape is None else spatial_shape
    if isinstance(origin, int):
        origin = (origin, origin, origin)
    corner = torch.tensor(list(origin), dtype=torch.int64, device=x.device)
    xyz = x.coords[:, 1:].to(torch.int64) - corner
    if shape is None:
        extent = (xyz.amax(0) + 1).clamp(min=0).tolist() if len(xyz) else [0, 0, 0]
    else:
        extent = list(triple("spatial_shape", shape, least=0))
    if not torch.compiler.is_compiling() and len(xyz):
        outside = (xyz < 0) | (xyz >= torch.tensor(extent, device=x.device))
        if bool(outside.any()):
            site = x.coords[outside.any(1)][0].tolist()
            low = x.coords[:, 1:].amin(0).tolist()
            raise ValueError(
                complain(
                    "spatial_shape",
                    f"a grid that holds every site, from {tuple(origin)} over {tuple(extent)}",
                    f"the site {site}",
                    f"pass origin={tuple(low)} and a spatial_shape that is large enough",
                )
            )
    cells = extent[0] * extent[1] * extent[2]
    flat = (xyz[:, 0] * extent[1] + xyz[:, 1]) * extent[2] + xyz[:, 2]
    flat = flat + x.coords[:, 0].to(torch.int64) * cells
    grid = x.features.new_zeros(x.batch_size * cells, x.channels)
    grid = grid.index_copy(0, flat, x.features)
    return grid.reshape(x.batch_size, *extent, x.channels).permute(0, 4, 1, 2, 3)


def from_dense(
    grid: Tensor,  # [B, C, X, Y, Z]
    mask: Tensor | None = None,  # [B, X, Y, Z] bool
) -> SparseTensor:
    """Take the active sites of a full grid.

    Args:
        grid: float [B, C, X, Y, Z].
        mask: which sites are active; None for those with a channel that is not zero.

    Returns:
        [N, C] in lexicographic order, bounded by the grid; differentiable.

    Raises:
        ValueError: the shapes do not fit.
    """
    if grid.dim() != 5:
        raise ValueError(complain("grid", "[B, C, X, Y, Z]", f"{list(grid.shape)}"))
    size, _, *extent = grid.shape
    if mask is None:
        mask = (grid != 0).any(1)
    if mask.dtype != torch.bool or list(mask.shape) != [size, *extent]:
        raise ValueError(
            complain("mask", f"bool {[size, *extent]}", f"{mask.dtype} {list(mask.shape)}")
        )
    sites = torch.nonzero(mask)
    features = grid.permute(0, 2, 3, 4, 1)[mask]
    level = Level(sites.to(torch.int32), (1, 1, 1), tuple(extent), size)
    return SparseTensor.at(Topology.of(level), ROOT, features)
