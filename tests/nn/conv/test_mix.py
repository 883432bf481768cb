"""Mixed convolution against torch's dense depthwise layers, part by part."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.nn.conv.mix import partition_channels
from sparseconv.testing import laws
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of


def formula(layer, grid, kernels, stride=1, dilation=None, groups=None):
    """Split, convolve every part, concatenate."""
    done, start = [], 0
    for n, (part, kernel) in enumerate(zip(layer.parts, kernels, strict=True)):
        size, gap = part.weight.shape[0], dilation[n] if dilation else 1
        mine = grid[:, start : start + size]
        start += size
        pad = gap * (kernel - 1) // 2
        args = (part.weight, part.bias, stride, pad, gap, groups or size)
        done.append(dense.conv3d(mine, *args))
    assert start == grid.shape[1]
    return torch.cat(done, 1)


@pytest.mark.parametrize("name", ["random_sparse", "full_cube", "empty_batch_item", "one_voxel"])
@pytest.mark.parametrize(
    ("kernels", "partition"), [((3, 5, 7), "equal"), ((1, 5), "exp"), ((3,), "equal")]
)
def test_parts_are_dense_layers(backend, name, kernels, partition):
    x = scene(name).tensor(7)
    x.features.requires_grad_()
    layer = nn.MixConv3d(7, kernels, partition, dtype=torch.float64)
    y = layer(x)
    assert y.coords is x.coords
    grid = grid_of(x)
    expected = formula(layer, grid, kernels)
    assert_twins(y.features, at_sites(expected, y), [x.features, *layer.parameters()])
    torch.testing.assert_close(layer(grid), expected)


@pytest.mark.parametrize("stride", [2, (1, 2, 3)])
def test_a_stride_gives_all_parts_the_same_sites(backend, stride):
    x = scene("random_sparse").tensor(5)
    x.features.requires_grad_()
    layer = nn.MixConv3d(5, (3, 5), stride=stride, bias=False, dtype=torch.float64)
    y = layer(x)
    step = (2, 2, 2) if stride == 2 else stride
    blocks = {
        (c[0], *(v // s for v, s in zip(c[1:], step, strict=True))) for c in x.coords.tolist()
    }
    assert {tuple(c) for c in y.coords.tolist()} == blocks
    expected = formula(layer, grid_of(x), (3, 5), stride)
    assert_twins(y.features, at_sites(expected, y), [x.features, *layer.parameters()])
    assert layer(grid_of(x)).shape == expected.shape


def test_dilated_parts_have_three_taps_an_axis(backend):
    x = scene("random_sparse").tensor(6)
    layer = nn.MixConv3d(6, (3, 5, 7), dilated=True, dtype=torch.float64)
    assert [tuple(part.weight.shape[2:]) for part in layer.parts] == [(3, 3, 3)] * 3
    expected = formula(layer, grid_of(x), (3, 3, 3), dilation=(1, 2, 3))
    torch.testing.assert_close(layer(x).features, at_sites(expected, x))
    kept = nn.MixConv3d(6, (3, 5), dilated=True, stride=2)
    assert [part.kernel_size[0] for part in kept.parts] == [3, 5]


def test_parts_may_mix_their_channels(backend):
    x = scene("plane").tensor(6)
    layer = nn.MixConv3d(6, (1, 3), depthwise=False, dtype=torch.float64)
    expected = formula(layer, grid_of(x), (1, 3), groups=1)
    torch.testing.assert_close(layer(x).features, at_sites(expected, x))


def test_one_part_is_a_depthwise_convolution(backend):
    x = scene("random_sparse").tensor(4)
    layer = nn.MixConv3d(4, (3,), dtype=torch.float64)
    depthwise = nn.DepthwiseConv3d(4, 3, padding="subm", dtype=torch.float64)
    depthwise.load_state_dict(layer.parts[0].state_dict())
    assert torch.equal(layer(x).features, depthwise(x).features)


def test_partitions():
    assert partition_channels(64, 3, "equal") == [22, 21, 21]
    assert partition_channels(64, 4, "exp") == [36, 16, 8, 4]
    assert partition_channels(3, 3, "exp") == [1, 1, 1]
    with pytest.raises(ValueError, match="channels: expected at least 3"):
        partition_channels(2, 3, "equal")
    with pytest.raises(ValueError, match="channels: expected at least 3"):
        partition_channels(2, 3, "exp")
    with pytest.raises(ValueError, match="partition: expected 'equal' or 'exp'"):
        partition_channels(8, 2, "thirds")


def test_laws(backend):
    x = scene("empty_batch_item").tensor(4)
    layer = nn.MixConv3d(4, (3, 5), dtype=torch.float64)
    laws.isolation(layer, x)
    laws.permutation(layer, x)
    laws.translation(layer, x, (3, -2, 1))


@pytest.mark.parametrize("kernels", [(), (2,), (3, 0), (3.0,)])
def test_refused_kernels(kernels):
    with pytest.raises(ValueError, match="kernel_sizes: expected odd ints"):
        nn.MixConv3d(4, kernels)


def test_refused_input():
    with pytest.raises(ValueError, match="input of MixConv3d: expected 4 channels, found 3"):
        nn.MixConv3d(4, (3,))(scene("line").tensor(3))
