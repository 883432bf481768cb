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
DIAGONAL = [0, 3, 5]


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the principal axes of the points in the 3 x 3 x 3 cells around each voxel.

    Args:
        topology: whose root level holds the cells; its rulebook is shared with a network.
        moment: sums of the voxels' mean `moments` in each cell.
        cell: edge of a cell, in the unit of the moments.

    Returns:
        Variances float64 [N, 3], ascending; the axes of the smallest and of the largest, unit
        vectors float64 [N, 3] of either sign; and the number of voxels float64 [N].
    """
    book = topology.rulebook(ROOT, ROOT, NEAR)
    total = aggregate(moment, book.in_rows, book.out_rows, None, len(moment))
    count = total[:, 0]
    mean = total[:, 1:4] / count[:, None]
    covariance = total[:, 4:] / count[:, None]
    for column, (a, b) in enumerate(PAIRS):
        covariance[:, column] -= mean[:, a] * mean[:, b]
    # a little roundness keeps the axes of points and lines defined
    covariance[:, DIAGONAL] += 1e-4 * cell * cell
    values = _eigenvalues(covariance)
    low, high = (_eigenvector(covariance, values[:, column]) for column in (0, 2))
    return values, low, high, count


def _eigenvalues(
    matrix: Tensor,  # [N, 6]
) -> Tensor:  # [N, 3]
    """Return the eigenvalues of symmetric 3 x 3 matrices in ascending order, at least 0.

    In closed form, faster than a solver on many small matrices.

    Source:
        Smith, "Eigenvalues of a symmetric 3 x 3 matrix", CACM 4(4), 1961.
    """
    xx, xy, xz, yy, yz, zz = matrix.unbind(1)
    middle = (xx + yy + zz) / 3
    x, y, z = xx - middle, yy - middle, zz - middle
    spread = ((x * x + y * y + z * z + 2 * (xy * xy + xz * xz + yz * yz)) / 6).sqrt()
    half = (x * (y * z - yz * yz) - xy * (xy * z - yz * xz) + xz * (xy * yz - y * xz)) / 2
    cosine = half / (spread * spread * spread).clamp(min=1e-300)
    angle = torch.acos(cosine.clamp(-1, 1)) / 3
    high = middle + 2 * spread * torch.cos(angle)
    low = middle + 2 * spread * torch.cos(angle + 2 * torch.pi / 3)
    return torch.stack([low, 3 * middle - low - high, high], 1).clamp(min=0)


def _eigenvector(
    matrix: Tensor,  # [N, 6]
    value: Tensor,  # [N]
) -> Tensor:  # [N, 3]
    """Return a unit eigenvector, z where the matrix does not determine one."""
    xx, xy, xz, yy, yz, zz = matrix.unbind(1)
    rows = (
        torch.stack([xx - value, xy, xz], 1),
        torch.stack([xy, yy - value, yz], 1),
        torch.stack([xz, yz, zz - value], 1),
    )
    # all three products lie along the vector; the longest is the most exact
    best = torch.linalg.cross(rows[0], rows[1])
    length = best.square().sum(1)
    for a, b in ((0, 2), (1, 2)):
        other = torch.linalg.cross(rows[a], rows[b])
        longer = other.square().sum(1)
        best = torch.where((longer > length)[:, None], other, best)
        length = torch.maximum(longer, length)
    found = best / length.sqrt().clamp(min=1e-300)[:, None]
    upward = found.new_tensor([0.0, 0.0, 1.0])
    return torch.where((length > 1e-30)[:, None], found, upward)


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


def _described(values: Tensor, normal: Tensor, along: Tensor, count: Tensor, cell: float) -> Tensor:
    low, middle, high = values.unbind(1)
    high = high.clamp(min=1e-12)
    columns = [
        normal[:, 2] ** 2,
        (middle - low) / high,
        (high - middle) / high,
        along[:, 2] ** 2,
        (low.sqrt() / cell).clamp(max=1),
    ]
    return (torch.stack(columns, 1) * (count >= 3)[:, None]).to(torch.float32)
