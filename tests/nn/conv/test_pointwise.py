"""The pointwise layer is torch's convolution of kernel 1, and a matrix product."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}


@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "one_voxel"])
@pytest.mark.parametrize(("groups", "bias"), [(1, True), (1, False), (2, True)])
def test_values_and_gradients(backend, name, groups, bias):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = nn.PointwiseConv3d(4, 6, bias, groups=groups, **WIDE)
    full = dense.conv3d(grid_of(x), layer.weight, layer.bias, groups=groups)
    y = layer(x)
    assert y.shares_sites(x) and not x.topology.rulebooks
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    assert_twins(layer(grid_of(x)), full, [x.features, *layer.parameters()])


@pytest.mark.parametrize("stride", [2, (1, 2, 3)])
def test_a_stride_keeps_its_multiples(backend, stride):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    layer = nn.PointwiseConv3d(4, 3, stride=stride, **WIDE)
    y = layer(x)
    full = dense.conv3d(grid_of(x), layer.weight, layer.bias, stride)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    steps = torch.tensor([1, *layer.stride])
    kept = x.coords[(x.coords % steps == 0).all(1)] // steps
    assert {tuple(row) for row in y.coords.tolist()} == {tuple(row) for row in kept.tolist()}


def test_the_identity(backend):
    x = scene("negative").tensor(5)
    layer = nn.PointwiseConv3d(5, 5, bias=False, **WIDE)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(5)[:, :, None, None, None])
    assert torch.equal(layer(x).features, x.features)


@pytest.mark.parametrize("groups", [1, 4])
def test_add_and_relu(backend, groups):
    x = scene("random_sparse").tensor(4)
    layer = nn.PointwiseConv3d(4, 4, groups=groups, **WIDE)
    expected = (layer(x).features + x.features).relu()
    torch.testing.assert_close(layer(x, add=x, relu=True).features, expected)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, add=x, relu=True).features, expected)
    grid = grid_of(x)
    torch.testing.assert_close(layer(grid, add=grid, relu=True), (layer(grid) + grid).relu())


@pytest.mark.parametrize("groups", [1, 2])
def test_traced_is_eager(groups):
    torch._dynamo.reset()
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    layer = nn.PointwiseConv3d(4, 6, groups=groups, **WIDE)
    traced = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    assert_twins(traced(x).features, layer(x).features, [x.features, *layer.parameters()])
    torch._dynamo.reset()


def test_states_are_torchs():
    twin = torch.nn.Conv3d(4, 6, 1)
    torch.manual_seed(3)
    twin.reset_parameters()
    torch.manual_seed(3)
    layer = nn.PointwiseConv3d(4, 6)
    for key, value in twin.state_dict().items():
        assert torch.equal(layer.state_dict()[key], value)


def test_refusals():
    with pytest.raises(ValueError, match="groups: expected a divisor"):
        nn.PointwiseConv3d(4, 6, groups=4)
    with pytest.raises(ValueError, match="expected 4 channels, found 3"):
        nn.PointwiseConv3d(4, 6)(scene("line").tensor(3))
