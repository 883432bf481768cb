"""What an output depends on, and the picture of it."""

import numpy as np
import pytest
import torch

from sparseconv import nn
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing.scenes import scene
from sparseconv.viz.receptive_field import CENTRE, receptive_field
from sparseconv.viz.voxels import SIDE, voxel_points

UP = np.array([0.0, 0.0, 1.0])


@pytest.fixture
def x():
    return scene("random_sparse").tensor(3)


def chebyshev(x, row):
    mine = x.coords[:, 0] == x.coords[row, 0]
    apart = (x.coords[:, 1:] - x.coords[row, 1:]).abs().amax(1)
    return torch.where(mine, apart, 10**6)


def test_strengths_of_one_convolution_are_the_sizes_of_its_taps(x):
    layer = nn.SubMConv3d(3, 5, 3, dtype=torch.float64)
    row = 7
    field = receptive_field(layer, x, row)
    expected = torch.zeros(len(x), dtype=torch.float64)
    for n in torch.nonzero(chebyshev(x, row) <= 1).flatten().tolist():
        i, j, k = (x.coords[n, 1:] - x.coords[row, 1:] + 1).tolist()
        expected[n] = layer.weight[:, :, i, j, k].detach().norm()
    torch.testing.assert_close(field.strength, expected)
    assert field.site == tuple(x.coords[row].tolist())


def test_two_layers_reach_twice_as_far_through_active_sites_alone(x):
    net = nn.Sequential(*(nn.SubMConv3d(3, 3, 3, dtype=torch.float64) for _ in range(2)))
    row = 0
    first = receptive_field(net[0], x, row).reached
    both = receptive_field(net, x, row).reached
    steps = first.clone()
    for n in torch.nonzero(first).flatten().tolist():
        steps |= chebyshev(x, n) <= 1
    assert torch.equal(both, steps) and both.sum() > first.sum()


def test_a_place_and_a_row_mean_the_same(x):
    layer = nn.SubMConv3d(3, 2, 3, dtype=torch.float64)
    place = x.coords[4].tolist()
    a, b = receptive_field(layer, x, 4), receptive_field(layer, x, place)
    assert torch.equal(a.strength, b.strength) and a.site == b.site


def test_of_a_strided_layer(x):
    layer = nn.SparseConv3d(3, 2, 2, 2, dtype=torch.float64)
    y = layer(x)
    field = receptive_field(layer, x, 0)
    parent = torch.div(x.coords[:, 1:], 2, rounding_mode="floor")
    children = (parent == y.coords[0, 1:]).all(1) & (x.coords[:, 0] == y.coords[0, 0])
    assert torch.equal(field.reached, children)


def test_of_a_layer_that_refines():
    x = scene("random_sparse").tensor(3)
    y = nn.SparseConv3d(3, 2, 2, 2, dtype=torch.float64)(x)
    field = receptive_field(nn.SparseInverseConv3d(2, 4, 2, dtype=torch.float64), y, 5)
    assert field.reached.sum() == 1
    assert tuple(y.coords[field.reached][0].tolist()) == field.site


def test_an_output_that_reads_nothing(x):
    ones = torch.ones_like(x.features)
    assert not receptive_field(lambda t: t.replace(features=ones), x, 0).reached.any()


@pytest.mark.parametrize("site", [-1, 10**6, (0, 99, 99, 99), (1, 2)])
def test_refusals(x, site):
    with pytest.raises(ValueError, match="site: expected"):
        receptive_field(nn.SubMConv3d(3, 2, 3, dtype=torch.float64), x, site)


def test_hidden_faces_are_not_drawn():
    rgb = np.full((2, 3), 200, dtype=np.uint8)
    alone, _ = voxel_points(np.array([[0, 0, 0]]), rgb[:1], UP)
    touching, colours = voxel_points(np.array([[0, 0, 0], [0, 0, 1]]), rgb, UP)
    assert len(alone) == 6 * SIDE**2 and len(touching) == 10 * SIDE**2 == len(colours)
    assert np.abs(alone).max() <= 0.5


@pytest.mark.parametrize("up", [(0, 0, 1), (0, -1, 0)])
def test_the_picture_shows_the_site_and_what_it_reads(tmp_path, up):
    axis = torch.arange(-6, 7, dtype=torch.int32)
    flat = torch.cartesian_prod(torch.zeros(1, dtype=torch.int32), axis, axis)
    # a plane that is level in the picture
    coords = flat[:, [0, 1, 2]].new_zeros(len(flat), 4)
    coords[:, 1], coords[:, 3 if up[1] else 2] = flat[:, 1], flat[:, 2]
    x = SparseTensor(coords, torch.randn(len(coords), 2))
    centre = int((coords[:, 1:] == 0).all(1).nonzero()[0])
    field = receptive_field(nn.SubMConv3d(2, 2, 3), x, centre)
    assert int(field.reached.sum()) == 9
    picture = field.render(size=(320, 240), up=up).astype(int)
    assert picture.shape == (240, 320, 3)
    red = (picture[..., 0] > 1.8 * picture[..., 2]).sum()
    blue = (picture[..., 2] > 1.3 * picture[..., 0] + 20).sum()
    grey = (np.ptp(picture, axis=2) < 14) & (picture[..., 0] < 235)
    assert red > 60, f"{CENTRE} is seen"
    assert 4 * red < blue < 12 * red and grey.sum() > 4 * blue
    path = field.snapshot(tmp_path / "field.png", size=(320, 240), up=up)
    assert path.stat().st_size > 1000
    with pytest.raises(ValueError, match="path: expected a file ending in"):
        field.snapshot(tmp_path / "field.jpg")
    with pytest.raises(ValueError, match="radius: expected"):
        field.render(radius=0)
    with pytest.raises(ValueError, match="background: expected 'white' or 'dark'"):
        field.render(background="pink")
