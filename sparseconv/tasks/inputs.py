"""What a network sees of a scan: the shape of its surface alone, which every scan has.

Features of a voxel, in order: a one; the mean offset of its points from its centre (3, voxels);
the recipe's heights above the ground, cut at -1 and 1.5; for each scale the shape of
the points around it (5); and, where scans have a sensor at the origin, the distance from it.
Colour and intensity are left out: real scans lack them or mean other things by them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparseconv.io.point_cloud import PointCloud
from sparseconv.tasks.ground import height_above_ground
from sparseconv.tasks.recipe import Recipe
from sparseconv.tasks.surface import moments, surface_shape
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.transforms.voxelize import voxelize

NO_CLASS = -1


def point_columns(
    xyz: np.ndarray,  # [N, 3]
    recipe: Recipe,
) -> np.ndarray:  # [N, H + 1]
    """Return what depends on the whole scan: heights above ground and distance to the sensor.

    Args:
        xyz: finite points, z up, metres.
        recipe: of the network.

    Returns:
        float64 [N, H + 1]: the recipe's height features, then metres.
    """
    slopes = dict.fromkeys(slope for slope, _ in recipe.heights)
    above = {slope: height_above_ground(xyz, slope) for slope in slopes}
    columns = [above[slope] / unit for slope, unit in recipe.heights]
    return np.stack([*columns, np.hypot(xyz[:, 0], xyz[:, 1])], 1)


def network_input(
    scans: Sequence[np.ndarray],  # each [N, 3]
    columns: Sequence[np.ndarray],  # each [N, H + 1]
    recipe: Recipe,
) -> tuple[SparseTensor, Tensor, Tensor]:
    """Voxelise scans and compute the features of their voxels.

    Args:
        scans: finite points, z up, metres; a scan is a batch item.
        columns: `point_columns` of each.
        recipe: of the network.

    Returns:
        The sparse tensor, float32 [V, recipe.in_channels]; the voxel row of each point of all
        scans, int64 [N]; and the place of each point on the tensor's lattice, float32 [N, 4]:
        batch item, then x, y, z in voxels, the centre of voxel (i, j, k) being at (i, j, k).
    """
    # products of coordinates need a near origin, and voxel numbers must fit; whole voxels keep
    # the lattice where it is
    step = recipe.voxel * max(recipe.scales)
    local = [scan - np.floor(_low(scan) / step) * step for scan in scans]
    places = np.concatenate(local) / recipe.voxel if local else np.zeros((0, 3))
    point = torch.from_numpy(
        np.concatenate([places - np.floor(places) - 0.5, np.concatenate(columns)], 1)
    )
    given = torch.cat([point, moments(torch.from_numpy(places))], 1)
    x, to_voxel = voxelize(local, recipe.voxel, features=given)
    offset, height, away, moment = x.features.split([3, len(recipe.heights), 1, 10], 1)
    parts = [torch.ones(len(x), 1), offset, height.clamp(-1, 1.5)]
    parts += [surface_shape(x.topology, moment, scale) for scale in recipe.scales]
    if recipe.range_unit is not None:
        parts.append((away / recipe.range_unit).clamp(max=1.5))
    x = x.replace(features=torch.cat([part.to(torch.float32) for part in parts], 1))
    item = np.repeat(np.arange(len(scans)), [len(scan) for scan in scans])
    lattice = np.concatenate([item[:, None], places - 0.5], 1).astype(np.float32)
    return x, to_voxel, torch.from_numpy(lattice)


def labelled_input(scans: Sequence[PointCloud], recipe: Recipe) -> tuple[SparseTensor, Tensor]:
    """Return the network's input for labelled scans, and the class of each voxel.

    Args:
        scans: finite points, z up, metres, with the attribute `label`: classes of the recipe,
            others ignored.
        recipe: of the network.

    Returns:
        Features [V, C] and int64 [V], -1 for voxels without a class.
    """
    columns = [point_columns(scan.xyz, recipe) for scan in scans]
    x, to_voxel, _ = network_input([scan.xyz for scan in scans], columns, recipe)
    label = np.concatenate([scan.attributes["label"] for scan in scans])
    return x, voxel_labels(label, to_voxel, len(x), len(recipe.classes))


def voxel_labels(
    label: np.ndarray,  # [N]
    to_voxel: Tensor,  # [N]
    voxels: int,
    classes: int,
) -> Tensor:  # [V]
    """Return the most frequent class of each voxel, -1 where no point has one; int64."""
    known = torch.from_numpy((label >= 0) & (label < classes)) & (to_voxel >= 0)
    truth = torch.from_numpy(label.astype(np.int64))[known]
    votes = torch.bincount(to_voxel[known] * classes + truth, minlength=voxels * classes)
    most, row = votes.reshape(voxels, classes).max(1)
    return torch.where(most > 0, row, NO_CLASS)


def _low(scan: np.ndarray) -> np.ndarray:
    return scan.min(0) if len(scan) else np.zeros(3)
