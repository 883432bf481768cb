"""The shape of a surface around each voxel, from the second moments of the points near it."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv.geometry import Geometry
from sparseconv.ops.aggregate import aggregate
from sparseconv.ops.coords import unique_coords
from sparseconv.tensor.topology import ROOT, Level, Topology

NEAR = Geometry.submanifold(3)
# the moments of a voxel: 1, x, y, z, xx, xy, xz, yy, yz, zz
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def moments(
    xyz: Tensor,  # [N, 3]
) -> Tensor:  # [N, 10]
    """Return 1, the coordinates and their products, float64: to be averaged over a voxel."""
    wide = xyz.to(torch.float64)
    products = [wide[:, a] * wide[:, b] for a, b in PAIRS]
    return torch.cat([torch.ones_like(wide[:, :1]), wide, torch.stack(products, 1)], 1)


def principal_axes(
    topology: Topology,
    moment: Tensor,  # [N, 10]
    cell: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the principal axes of the points in the 3 x 3 x 3 cells around each voxel.

    Args:
        topology: whose root level holds the cells; its rulebook is shared with a network.
        moment: sums of the voxels' mean `moments` in each cell.
        cell: edge of a cell, in the unit of the moments.

    Returns:
        Variances float64 [N, 3], ascending; axes float64 [N, 3, 3], a column each; and the number
        of voxels float64 [N].
    """
    book = topology.rulebook(ROOT, ROOT, NEAR)
    total = aggregate(moment, book.in_rows, book.out_rows, None, len(moment))
    count = total[:, 0]
    mean = total[:, 1:4] / count[:, None]
    covariance = torch.empty(len(total), 3, 3, dtype=torch.float64)
    for column, (a, b) in enumerate(PAIRS):
        part = total[:, 4 + column] / count - mean[:, a] * mean[:, b]
        covariance[:, a, b] = covariance[:, b, a] = part
    # a little roundness keeps the axes of points and lines defined
    covariance += torch.eye(3, dtype=torch.float64) * (1e-4 * cell * cell)
    values, axes = torch.linalg.eigh(covariance)
    return values.clamp(min=0), axes, count


def surface_shape(
    topology: Topology,
    moment: Tensor,  # [N, 10]
    scale: int,
) -> Tensor:  # [N, 5]
    """Describe the points in the 3 x 3 x 3 cells around each voxel.

    Columns: how upright the normal is (nz squared), flatness ((l1 - l0) / l2), straightness
    ((l2 - l1) / l2), how upright the longest axis is (squared), and thickness (the root of l0, in
    cells, cut at 1); l0 <= l1 <= l2 are the variances along the principal axes, every voxel
    counting once. Zeros where there are fewer than three voxels.

    Args:
        topology: whose root level holds the voxels.
        moment: mean `moments` of the points of each voxel, in voxels.
        scale: voxels per cell.

    Returns:
        float32 [N, 5].
    """
    level = topology.levels[ROOT]
    if scale == 1:
        return _described(*principal_axes(topology, moment, 1.0), 1.0)
    coarse = level.coords.clone()
    coarse[:, 1:] = torch.div(coarse[:, 1:], scale, rounding_mode="floor")
    sites, rows, _, _ = unique_coords(coarse)
    every = torch.arange(len(coarse), dtype=torch.int32)
    moment = aggregate(moment, every, rows.to(torch.int32), None, len(sites))
    topology = Topology.of(Level(sites, (scale,) * 3, None, level.batch_size))
    return _described(*principal_axes(topology, moment, float(scale)), float(scale))[rows]


def _described(values: Tensor, axes: Tensor, count: Tensor, cell: float) -> Tensor:
    low, middle, high = values.unbind(1)
    high = high.clamp(min=1e-12)
    columns = [
        axes[:, 2, 0] ** 2,
        (middle - low) / high,
        (high - middle) / high,
        axes[:, 2, 2] ** 2,
        (low.sqrt() / cell).clamp(max=1),
    ]
    return (torch.stack(columns, 1) * (count >= 3)[:, None]).to(torch.float32)
