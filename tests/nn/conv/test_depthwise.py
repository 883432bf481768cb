"""The depthwise layer is torch's convolution with as many groups as channels."""

import pytest
import torch
from torch import nn as torch_nn

from sparseconv import nn
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}
KEPT = [(3, 1), (3, 2), (2, 1), (4, 1), (2, 3), ((1, 2, 3), 1), ((3, 1, 4), (2, 1, 1))]


@pytest.mark.parametrize("many", [1, 3])
@pytest.mark.parametrize(("kernel", "dilation"), KEPT, ids=str)
def test_at_the_sites_of_the_input(backend, kernel, dilation, many):
    x = scene("backwards").tensor(4)
    x.features.requires_grad_()
    layer = nn.DepthwiseConv3d(4, kernel, 1, "subm", dilation, many, bias=many == 1, **WIDE)
    assert layer.weight.shape[:2] == (4 * many, 1)
    spec = Spec.of(kernel, 1, "same", dilation)
    full = oracle.dense_conv(grid_of(x), layer.weight, layer.bias, spec, 4)
    y = layer(x)
    assert y.shares_sites(x)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    torch.testing.assert_close(layer(grid_of(x)), full)


@pytest.mark.parametrize(
    "geometry", [(3, 1, 1, 1), (2, 2, 0, 1), (3, 2, 1, 1), (3, 1, "same", 2), (2, 3, 1, 2)], ids=str
)
@pytest.mark.parametrize("many", [1, 2])
def test_at_sites_of_its_own(backend, geometry, many):
    x = scene("random_sparse").tensor(3)
    x.features.requires_grad_()
    layer = nn.DepthwiseConv3d(3, *geometry, depth_multiplier=many, **WIDE)
    spec = Spec.of(*geometry)
    full = oracle.dense_conv(grid_of(x), layer.weight, layer.bias, spec, 3)
    y = layer(x)
    sites = oracle.conv_sites(oracle.sites_of(x.coords), spec, x.spatial_shape)
    assert oracle.sites_of(y.coords) == sites
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    torch.testing.assert_close(layer(grid_of(x)), full)


def test_outputs_of_a_channel_lie_together(backend):
    # torch's order: channel c makes outputs c m .. c m + m - 1
    x = scene("line").tensor(2)
    x.features.requires_grad_()
    y = nn.DepthwiseConv3d(2, 3, 1, "subm", depth_multiplier=3, **WIDE)(x).features
    (grad,) = torch.autograd.grad(y[:, 3:].square().sum(), x.features)
    assert not grad[:, 0].any() and grad[:, 1].all()


def test_one_channel_is_a_plain_convolution(backend):
    x = scene("surface").tensor(1)
    layer, plain = nn.DepthwiseConv3d(1, 3, 1, "subm", **WIDE), nn.SubMConv3d(1, 1, 3, **WIDE)
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x).features, plain(x).features)


def test_states_and_first_numbers_are_torchs():
    torch.manual_seed(3)
    twin = torch_nn.Conv3d(4, 8, 3, groups=4)
    torch.manual_seed(3)
    layer = nn.DepthwiseConv3d(4, 3, depth_multiplier=2)
    for key, value in twin.state_dict().items():
        assert torch.equal(layer.state_dict()[key], value)


@pytest.mark.parametrize("many", [1, 2])
def test_add_and_relu(backend, many):
    x = scene("random_sparse").tensor(2)
    layer = nn.DepthwiseConv3d(2, 3, 1, "subm", depth_multiplier=many, **WIDE)
    other = layer(x)
    expected = (2 * other.features).relu()
    torch.testing.assert_close(layer(x, add=other, relu=True).features, expected)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, add=other, relu=True).features, expected)


def test_it_says_what_it_is():
    assert "padding='subm'" in repr(nn.DepthwiseConv3d(4, 3, padding="subm"))
    assert "padding" not in repr(nn.DepthwiseConv3d(4, 3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"padding": "subm", "stride": 2}, "padding: .*'subm' with stride 2"),
        ({"padding": "half"}, "padding"),
        ({"depth_multiplier": 0}, "depth_multiplier: expected an int >= 1, found 0"),
        ({"in_channels": 0}, "in_channels"),
        ({"kernel_size": 0}, "kernel_size"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(ValueError, match=words):
        nn.DepthwiseConv3d(**{"in_channels": 4, "kernel_size": 3, **change})
