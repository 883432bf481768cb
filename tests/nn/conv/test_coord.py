"""CoordConv: a convolution of the features and, on a full grid, of the coordinates beside them."""

import pytest
import torch

from sparseconv import nn
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}


def with_coordinates(grid, active, with_r):
    """Concatenate scaled coordinates, cell by cell, where there is a site."""
    size, _, *shape = grid.shape
    more = torch.zeros(size, 3 + with_r, *shape, dtype=torch.float64)
    for b, *q in active:
        scaled = [2 * v / (n - 1) - 1 if n > 1 else 0.0 for v, n in zip(q, shape, strict=True)]
        more[b, :3][(slice(None), *q)] = torch.tensor(scaled, dtype=torch.float64)
        if with_r:
            more[(b, 3, *q)] = sum(v * v for v in scaled) ** 0.5
    return torch.cat([grid, more], 1)


@pytest.mark.parametrize("with_r", [False, True])
@pytest.mark.parametrize("name", ["full_cube", "random_sparse", "plane", "empty_batch_item"])
@pytest.mark.parametrize("place", [(3, 1, "subm", 1), (2, 2, 0, 1), (3, 1, 1, 2)], ids=str)
def test_values_and_gradients(backend, name, with_r, place):
    # full_cube has extents 4, 3, 5: exchanged axes and extents show
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = nn.CoordConv3d(4, 6, *place, with_r=with_r, **WIDE)
    assert layer.weight.shape[1] == 7 + with_r
    kernel, stride, padding, dilation = place
    spec = Spec.of(kernel, stride, "same" if padding == "subm" else padding, dilation)
    wide = with_coordinates(grid_of(x), oracle.sites_of(x.coords), with_r)
    full = oracle.dense_conv(wide, layer.weight, layer.bias, spec)
    y = layer(x)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    if name == "full_cube":
        assert_twins(layer(grid_of(x)), full, [x.features, *layer.parameters()])


def test_empty_cells_have_no_coordinates(backend):
    # the documented difference from a dense CoordConv
    x = scene("random_sparse").tensor(2)
    layer = nn.CoordConv3d(2, 3, 3, padding="subm", **WIDE)
    difference = layer(x).features - at_sites(layer(grid_of(x)), x)
    assert difference.abs().max() > 0.05


def test_an_axis_of_one_voxel_has_coordinate_zero(backend):
    x = scene("one_voxel").tensor(2)
    x = SparseTensor(x.coords * 0, x.features, (1, 1, 1), 1)
    layer = nn.CoordConv3d(2, 3, 3, padding="subm", with_r=True, **WIDE)
    plain = nn.SubMConv3d(2, 3, 3, **WIDE)
    with torch.no_grad():
        plain.weight.copy_(layer.weight[:, :2])
        plain.bias.copy_(layer.bias)
    torch.testing.assert_close(layer(x).features, plain(x).features)


def test_without_coordinate_weights_it_is_plain(backend):
    x = scene("surface").tensor(3)
    layer = nn.CoordConv3d(3, 4, 3, padding="subm", coord_range="fixed", extent=64, **WIDE)
    plain = nn.SubMConv3d(3, 4, 3, **WIDE)
    with torch.no_grad():
        layer.weight[:, 3:] = 0
        plain.weight.copy_(layer.weight[:, :3])
        plain.bias.copy_(layer.bias)
    torch.testing.assert_close(layer(x).features, plain(x).features)


def test_a_fixed_extent_counts_in_the_finest_voxels(backend):
    x = scene("random_sparse").tensor(2)
    coarse = nn.SparseConv3d(2, 2, 2, 2, **WIDE)(x)
    layer = nn.CoordConv3d(2, 3, 1, coord_range="fixed", extent=(9, 5, 3), **WIDE)
    y = layer(coarse.replace(features=coarse.features * 0)).features
    where = 2 * coarse.coords[:, 1:] * 2 / torch.tensor([8.0, 4, 2], dtype=torch.float64) - 1
    expected = where @ layer.weight[:, 2:].flatten(1).T + layer.bias
    torch.testing.assert_close(y, expected)


def test_other_sites_do_not_change_where_a_site_is(backend):
    x = scene("backwards").tensor(2)
    layer = nn.CoordConv3d(2, 3, 1, padding="subm", **WIDE)
    half = SparseTensor(x.coords[:20], x.features[:20], x.spatial_shape, x.batch_size)
    torch.testing.assert_close(layer(half).features, layer(x).features[:20])


def test_half_precision_keeps_its_dtype():
    x = scene("random_sparse").tensor(2, torch.bfloat16)
    y = nn.CoordConv3d(2, 3, 3, padding="subm", dtype=torch.bfloat16)(x)
    assert y.dtype == torch.bfloat16


def test_refusals():
    with pytest.raises(ValueError, match="x: expected a spatial_shape"):
        nn.CoordConv3d(2, 3, 3, **WIDE)(scene("negative").tensor(2))
    with pytest.raises(ValueError, match="coord_range"):
        nn.CoordConv3d(2, 3, 3, coord_range="box")
    with pytest.raises(ValueError, match="extent"):
        nn.CoordConv3d(2, 3, 3, coord_range="fixed")
    with pytest.raises(ValueError, match="extent"):
        nn.CoordConv3d(2, 3, 3, extent=8)
    with pytest.raises(ValueError, match="expected 2 channels, found 5"):
        nn.CoordConv3d(2, 3, 3)(scene("line").tensor(5))
