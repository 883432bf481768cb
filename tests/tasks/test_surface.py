"""The shape of surfaces, on surfaces that have one."""

import numpy as np
import pytest
import torch

from sparseconv.tasks.surface import moments, surface_shape
from sparseconv.transforms.voxelize import voxelize


def shape_of(xyz, scale):
    x, _ = voxelize(xyz, 1.0, features=moments(torch.from_numpy(xyz)))
    shape = surface_shape(x.topology, x.features, scale)
    middle = (x.coords[:, 1:] - torch.tensor(np.median(xyz, 0))).abs().max(1).values < 3
    return shape[middle].mean(0)


@pytest.mark.parametrize("scale", [1, 4])
def test_floor_wall_pole_and_ball(scale):
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0, 30, (2, 20_000))
    level = np.full_like(a, 0.5)
    floor = shape_of(np.stack([a, b, level], 1), scale)
    wall = shape_of(np.stack([a, level, b], 1), scale)
    pole = shape_of(np.stack([level, level, a], 1), scale)
    cloud = shape_of(rng.uniform(0, 30, (60_000, 3)), scale)
    assert floor[0] > 0.98 and floor[1] > 0.8 and floor[4] < 0.05
    assert wall[0] < 0.02 and wall[1] > 0.8
    assert pole[2] > 0.95 and pole[3] > 0.98
    assert cloud[1] < 0.4 and cloud[2] < 0.4 and cloud[4] > 0.5


def test_too_few_voxels_have_no_shape():
    x, _ = voxelize(np.array([[0.5, 0.5, 0.5]]), 1.0, features=moments(torch.full((1, 3), 0.5)))
    assert surface_shape(x.topology, x.features, 1).tolist() == [[0.0] * 5]
