"""Flattened convolutions: kernels of rank one, at once or line by line."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of, occupied

WIDE = {"dtype": torch.float64}
SHAPES = [(3, 1), (2, 1), ((3, 2, 5), 1), ((1, 3, 2), (1, 2, 3))]


def product_of(layer):
    """The kernel of rank one that the layer stands for."""
    stages = (layer.lateral, layer.along_x, layer.along_y, layer.along_z)
    return torch.einsum("fc,fi,fj,fk->fcijk", *stages)


@pytest.mark.parametrize(("kernel", "dilation"), SHAPES, ids=str)
@pytest.mark.parametrize("name", ["random_sparse", "full_cube"])
def test_exact_is_the_rank_one_convolution(backend, name, kernel, dilation):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = nn.FlattenedConv3d(4, 6, kernel, dilation, mode="exact", **WIDE)
    spec = Spec.of(kernel, 1, "same", dilation)
    full = oracle.dense_conv(grid_of(x), product_of(layer), layer.bias, spec)
    y = layer(x)
    assert y.shares_sites(x)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    assert_twins(layer(grid_of(x)), full, [x.features, *layer.parameters()])


@pytest.mark.parametrize(("kernel", "dilation"), SHAPES, ids=str)
@pytest.mark.parametrize("bias", ["last", None])
def test_sequential_is_it_on_full_grids(backend, kernel, dilation, bias):
    x = scene("full_cube").tensor(4)
    x.features.requires_grad_()
    layer = nn.FlattenedConv3d(4, 6, kernel, dilation, bias, **WIDE)
    spec = Spec.of(kernel, 1, "same", dilation)
    full = oracle.dense_conv(grid_of(x), product_of(layer), layer.bias, spec)
    assert_twins(layer(x).features, at_sites(full, x), [x.features, *layer.parameters()])
    assert_twins(layer(grid_of(x)), full, [x.features, *layer.parameters()])


@pytest.mark.parametrize("bias", ["last", "all"])
def test_sequential_is_masked_after_every_line(backend, bias):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    layer = nn.FlattenedConv3d(4, 6, (3, 2, 3), bias=bias, **WIDE)
    mask = occupied(x)
    full = dense.conv3d(grid_of(x), layer.lateral[:, :, None, None, None], layer.lateral_bias)
    for axis, (weight, shift) in enumerate(
        (
            (layer.along_x, layer.x_bias),
            (layer.along_y, layer.y_bias),
            (layer.along_z, layer.bias),
        )
    ):
        size = [1, 1, 1]
        size[axis] = weight.shape[1]
        line = weight.reshape(6, 1, *size)
        full = oracle.dense_conv(full * mask, line, shift, Spec.of(size, 1, "same"), 6)
    y = layer(x)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])


def test_a_path_around_an_absent_corner_is_lost(backend):
    # the documented difference between the modes
    coords = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.int32)
    exact = nn.FlattenedConv3d(1, 1, 3, mode="exact", bias=None, **WIDE)
    x = SparseTensor(coords, torch.eye(2, 1, **WIDE), (2, 2, 1), 1)
    twin = nn.FlattenedConv3d(1, 1, 3, bias=None, **WIDE)
    twin.load_state_dict(exact.state_dict())
    assert exact(x).features[1].abs() > 0 and twin(x).features[1] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "fast"}, "mode: expected 'sequential' or 'exact', found 'fast'"),
        ({"bias": "all", "mode": "exact"}, "bias: .*found 'all' with mode 'exact'"),
        ({"bias": "first"}, "bias"),
        ({"out_channels": 0}, "out_channels"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(ValueError, match=words):
        nn.FlattenedConv3d(**{"in_channels": 4, "out_channels": 4, "kernel_size": 3, **change})
    with pytest.raises(ValueError, match="expected 4 channels"):
        nn.FlattenedConv3d(4, 4, 3)(scene("line").tensor(3))
