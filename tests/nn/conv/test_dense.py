"""The dense layer is torch's, and agrees with the sparse ones whose parameters it shares."""

import pytest
import torch
from torch import nn as torch_nn

from sparseconv import nn
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_a_grid_goes_to_torch(mode):
    torch.manual_seed(2)
    layer = nn.DenseConv3d(3, 4, 3, 2, 1, padding_mode=mode)
    torch.manual_seed(2)
    twin = torch_nn.Conv3d(3, 4, 3, 2, 1, padding_mode=mode)
    grid = torch.randn(2, 3, 5, 4, 6)
    assert isinstance(layer, torch_nn.Conv3d)
    assert torch.equal(layer(grid), twin(grid))


@pytest.mark.parametrize("name", ["random_sparse", "full_cube", "empty_batch_item", "line"])
@pytest.mark.parametrize(
    "place",
    [(3, 1, 1, 1), (3, 2, 1, 1), (2, 2, 0, 1), ((3, 1, 5), 1, (1, 0, 2), 1), (3, 1, "same", 2)],
    ids=str,
)
def test_a_sparse_tensor_is_read_at_its_sites(name, place):
    # the kernel has no symmetry and lines, cubes have X != Y != Z: exchanged axes show
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = nn.DenseConv3d(4, 6, *place, groups=2, **WIDE)
    spec = Spec.of(*place)
    full = oracle.dense_conv(grid_of(x), layer.weight, layer.bias, spec, 2)
    y = layer(x)
    if place[1] == 1:
        assert y.shares_sites(x)
    else:
        sites = oracle.conv_sites(oracle.sites_of(x.coords), spec, x.spatial_shape)
        assert oracle.sites_of(y.coords) == sites and y.spatial_shape == tuple(full.shape[2:])
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (2, 1), ((1, 4, 3), (1, 1, 2)), (2, 3)])
def test_it_shares_its_parameters_with_submanifold_layers(backend, kernel, dilation):
    sparse = nn.SubMConv3d(4, 6, kernel, dilation, groups=2, **WIDE)
    layer = nn.DenseConv3d.from_sparse(sparse)
    assert layer.weight is sparse.weight and layer.bias is sparse.bias
    again = layer.to_sparse()
    assert type(again) is nn.SubMConv3d and again.weight is sparse.weight
    for name in ("negative", "random_sparse", "empty", "one_voxel"):
        x = scene(name).tensor(4)
        torch.testing.assert_close(layer(x).features, sparse(x).features)
        torch.testing.assert_close(again(x).features, sparse(x).features)


@pytest.mark.parametrize("place", [(3, 2, 1), (2, 2, 0), (3, 1, 0), (3, 1, 1), (3, 1, 2)], ids=str)
def test_and_with_regular_ones(backend, place):
    x = scene("random_sparse").tensor(4)
    sparse = nn.SparseConv3d(4, 6, *place, bias=False, **WIDE)
    layer = nn.DenseConv3d.from_sparse(sparse)
    assert layer.weight is sparse.weight and layer.bias is None
    again = layer.to_sparse(submanifold=False)
    assert type(again) is nn.SparseConv3d and again.geometry == sparse.geometry
    torch.testing.assert_close(layer(grid_of(x)), sparse(grid_of(x)))
    y = sparse(x)
    torch.testing.assert_close(at_sites(layer(grid_of(x)), y), y.features)
    assert (type(layer.to_sparse()) is nn.SubMConv3d) == (place == (3, 1, 1))


def test_training_one_trains_the_other():
    sparse = nn.SubMConv3d(2, 2, 3)
    layer = nn.DenseConv3d.from_sparse(sparse)
    layer(torch.randn(1, 2, 4, 4, 4)).sum().backward()
    torch.optim.SGD(layer.parameters(), 0.1).step()
    x = scene("line").tensor(2, torch.float32)
    torch.testing.assert_close(layer(x).features, sparse(x).features)


def test_unbounded_sites_far_from_the_origin():
    x = scene("far_away").tensor(2)
    layer = nn.DenseConv3d(2, 3, 3, padding=1, **WIDE)
    torch.testing.assert_close(layer(x).features, layer.to_sparse()(x).features)


def test_refusals():
    layer = nn.DenseConv3d(2, 3, 3, padding=1, **WIDE)
    with pytest.raises(ValueError, match=r"x: expected a grid of at most .*use to_sparse\(\)"):
        layer(scene("int32_limits").tensor(2))
    with pytest.raises(ValueError, match="x: expected a spatial_shape"):
        nn.DenseConv3d(2, 3, 3, 2, **WIDE)(scene("negative").tensor(2))
    with pytest.raises(ValueError, match="x: expected a spatial_shape"):
        nn.DenseConv3d(2, 3, 3, 1, 1, padding_mode="reflect", **WIDE)(scene("negative").tensor(2))
    with pytest.raises(ValueError, match="padding_mode: expected 'zeros'"):
        nn.DenseConv3d(2, 3, 3, padding_mode="reflect").to_sparse()
    with pytest.raises(ValueError, match="submanifold: expected False"):
        nn.DenseConv3d(2, 3, 3, 2).to_sparse(submanifold=True)
    with pytest.raises(TypeError, match="layer: expected a SubMConv3d or SparseConv3d"):
        nn.DenseConv3d.from_sparse(nn.SparseConvTranspose3d(2, 3, 3))
    with pytest.raises(ValueError, match="expected 2 channels"):
        layer(scene("line").tensor(3))
