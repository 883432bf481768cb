"""Dynamic convolution equals a dense one of each scan with the mean of kernels it attends to."""

import pytest
import torch

from sparseconv import nn
from sparseconv.testing import laws
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scans import convolved, means
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}


def shares_of(layer, mean, temperature):
    hidden = torch.relu(mean @ layer.fc1.weight.T)
    return torch.softmax((hidden @ layer.fc2.weight.T + layer.fc2.bias) / temperature, 1)


def plain_of(layer, k):
    plain = nn.SubMConv3d(layer.in_channels, layer.out_channels, 3, **WIDE)
    with torch.no_grad():
        plain.weight.copy_(layer.weight[k])
        plain.bias.copy_(layer.bias[k])
    return plain


@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "same_xyz", "one_voxel"])
@pytest.mark.parametrize("kind", ["subm", "strided"])
def test_dense_scan_by_scan(backend, name, kind):
    x = scene(name).tensor(8)
    x.features.requires_grad_()
    geometry = (3, 1, "subm") if kind == "subm" else (3, 2, 1)
    groups = 2 if kind == "subm" else 1
    layer = nn.DynamicConv3d(8, 6, *geometry, groups=groups, num_kernels=3, **WIDE)
    layer.set_temperature(0.75)
    shares = shares_of(layer, means(x), 0.75)
    torch.testing.assert_close(layer.attention(x), shares)
    kernels = torch.einsum("bk,k...->b...", shares, layer.weight)
    spec = Spec.of(3, 1, "same") if kind == "subm" else Spec.of(*geometry)
    y = layer(x)
    full = convolved(grid_of(x), kernels, shares @ layer.bias, spec, groups)
    # shared kernels move the shares little: gradients of the attention are small numbers
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])


def test_a_dense_tensor():
    grid = torch.randn(2, 8, 3, 4, 5, **WIDE)
    layer = nn.DynamicConv3d(8, 6, 2, 2, **WIDE)
    shares = shares_of(layer, grid.mean((2, 3, 4)), 30)
    kernels = torch.einsum("bk,k...->b...", shares, layer.weight)
    expected = convolved(grid, kernels, shares @ layer.bias, Spec.of(2, 2))
    assert_twins(layer(grid), expected, layer.parameters())


def test_one_kernel_is_a_plain_convolution(backend):
    x = scene("random_sparse").tensor(8)
    layer = nn.DynamicConv3d(8, 6, 3, padding="subm", num_kernels=1, **WIDE)
    torch.testing.assert_close(layer(x).features, plain_of(layer, 0)(x).features)


def test_at_high_temperature_the_mean_kernel():
    x = scene("random_sparse").tensor(8)
    layer = nn.DynamicConv3d(8, 6, 3, padding="subm", temperature=1e9, **WIDE)
    expected = torch.stack([plain_of(layer, k)(x).features for k in range(4)]).mean(0)
    torch.testing.assert_close(layer(x).features, expected)


def test_equal_kernels_are_one():
    x = scene("random_sparse").tensor(8)
    layer = nn.DynamicConv3d(8, 6, 3, padding="subm", temperature=0.1, **WIDE)
    with torch.no_grad():
        layer.weight.copy_(layer.weight[:1].clone().expand_as(layer.weight))
        layer.bias.copy_(layer.bias[:1].clone().expand_as(layer.bias))
    torch.testing.assert_close(layer(x).features, plain_of(layer, 0)(x).features)


def test_the_temperature_is_saved():
    layer = nn.DynamicConv3d(8, 6, 3)
    layer.set_temperature(7.5)
    other = nn.DynamicConv3d(8, 6, 3)
    other.load_state_dict(layer.state_dict())
    assert float(other.temperature.value) == 7.5 and "7.5" in repr(other)


def test_scans_do_not_meet(backend):
    layer = nn.DynamicConv3d(8, 6, 3, padding="subm", temperature=1.0, **WIDE)
    laws.isolation(layer, scene("same_xyz").tensor(8))


def test_refusals():
    for value in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature"):
            nn.DynamicConv3d(8, 6, 3).set_temperature(value)
    with pytest.raises(ValueError, match="num_kernels"):
        nn.DynamicConv3d(8, 6, 3, num_kernels=0)
    with pytest.raises(ValueError, match="reduction"):
        nn.DynamicConv3d(8, 6, 3, reduction=0)
    with pytest.raises(ValueError, match="input of DynamicConv3d"):
        nn.DynamicConv3d(8, 6, 3)(torch.ones(1, 4, 3, 3, 3))
