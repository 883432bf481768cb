"""Submanifold, grouped and dilated convolutions: what they turn into in special cases."""

from itertools import product

import pytest
import torch

from sparseconv import nn
from sparseconv.nn.families import family
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}


@pytest.mark.parametrize("key", ["submanifold", "grouped", "dilated"])
@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item"])
def test_entries_are_torchs_convolution(backend, key, name):
    x = scene(name).tensor(8)
    x.features.requires_grad_()
    layer = family(key).make(8, 12, x.spatial_shape).double()
    assert (layer.groups > 1) == (key == "grouped")
    assert (layer.dilation[0] > 1) == (key == "dilated")
    spec = Spec.of(3, 1, "same", layer.dilation)
    full = oracle.dense_conv(grid_of(x), layer.weight, layer.bias, spec, layer.groups)
    assert_twins(layer(x).features, at_sites(full, x), [x.features, *layer.parameters()])


def test_sites_without_neighbours_meet_the_centre_tap_alone(backend):
    coords = torch.tensor([[0, *site] for site in product((0, 5, 10), repeat=3)]).int()
    x = SparseTensor(coords, torch.randn(27, 4, **WIDE))
    layer = nn.SubMConv3d(4, 6, 5, **WIDE)
    expected = x.features @ layer.weight[:, :, 2, 2, 2].T + layer.bias
    torch.testing.assert_close(layer(x).features, expected)


def test_one_tap_is_the_pointwise_layer(backend):
    x = scene("negative").tensor(4)
    layer, point = nn.SubMConv3d(4, 6, 1, **WIDE), nn.PointwiseConv3d(4, 6, **WIDE)
    point.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x).features, point(x).features)


def test_groups_are_a_block_diagonal_weight(backend):
    x = scene("surface").tensor(6)
    layer = nn.SubMConv3d(6, 9, 3, groups=3, **WIDE)
    whole = nn.SubMConv3d(6, 9, 3, **WIDE)
    with torch.no_grad():
        whole.weight.zero_()
        for g in range(3):
            whole.weight[3 * g : 3 * g + 3, 2 * g : 2 * g + 2] = layer.weight[3 * g : 3 * g + 3]
        whole.bias.copy_(layer.bias)
    torch.testing.assert_close(layer(x).features, whole(x).features)


def test_groups_are_contiguous_and_meet_nowhere(backend):
    x = scene("random_sparse").tensor(6)
    x.features.requires_grad_()
    y = nn.SubMConv3d(6, 6, 3, groups=3, **WIDE)(x).features
    for g in range(3):
        (grad,) = torch.autograd.grad(y[:, 2 * g : 2 * g + 2].sum(), x.features, retain_graph=True)
        reached = (grad != 0).any(0).tolist()
        assert reached == [c // 2 == g for c in range(6)]


@pytest.mark.parametrize("rate", [2, 3])
def test_spread_taps_are_undilated_ones_on_every_coset(backend, rate):
    # sites that differ modulo the rate never meet; those that agree are a lattice of their own
    x = scene("random_sparse").tensor(4)
    layer = nn.SubMConv3d(4, 5, 3, rate, **WIDE)
    plain = nn.SubMConv3d(4, 5, 3, **WIDE)
    plain.load_state_dict(layer.state_dict())
    y = layer(x).features
    for rest in product(range(rate), repeat=3):
        mine = (x.coords[:, 1:] % rate == torch.tensor(rest)).all(1)
        coords = x.coords[mine].clone()
        coords[:, 1:] = (coords[:, 1:] - torch.tensor(rest)) // rate
        part = SparseTensor(coords, x.features[mine], batch_size=x.batch_size)
        torch.testing.assert_close(plain(part).features, y[mine])
