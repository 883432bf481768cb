"""Strides, extents and sites along a way down and up."""

import pytest
import torch

from sparseconv import nn
from sparseconv.testing.scenes import scene

WIDE = {"dtype": torch.float64}


def test_strides_multiply_on_the_way_down_and_divide_on_the_way_up(backend):
    x = scene("random_sparse").tensor(2)
    a = nn.SparseConv3d(2, 2, 2, 2, **WIDE)(x)
    b = nn.SparseConv3d(2, 2, 3, (1, 2, 3), 1, **WIDE)(a)
    c = nn.MaxPool3d(2)(b)
    assert [t.stride for t in (a, b, c)] == [(2, 2, 2), (2, 4, 6), (4, 8, 12)]
    assert [t.spatial_shape for t in (a, b, c)] == [(4, 4, 4), (4, 2, 2), (2, 1, 1)]
    up = nn.SparseConvTranspose3d(2, 2, 2, 2, **WIDE)(c)
    assert up.stride == b.stride
    back = nn.Unpool()(c)
    assert back.shares_sites(b)
    assert nn.SparseInverseConv3d(2, 2, 3, **WIDE)(back).shares_sites(a)


def test_two_layers_of_one_geometry_arrive_at_the_same_sites():
    x = scene("random_sparse").tensor(2)
    conv, pool = nn.SparseConv3d(2, 2, 2, 2, **WIDE), nn.MaxPool3d(2)
    assert conv(x).shares_sites(pool(x))
    assert conv(x).coords is pool(x).coords


def test_sites_of_a_level_by_way_of_another_are_told_apart():
    # 2 after 3 and 3 after 2 have one stride but not the same sites
    x = scene("random_sparse").tensor(2)
    two, three = nn.MaxPool3d(2), nn.MaxPool3d(3, 3, 1)
    one, other = two(three(x)), three(two(x))
    assert one.stride == other.stride == (6, 6, 6)
    assert not one.shares_sites(other)


def test_a_stride_that_does_not_divide_is_refused():
    x = nn.MaxPool3d(3)(scene("random_sparse").tensor(2))
    with pytest.raises(ValueError, match="stride"):
        nn.SparseConvTranspose3d(2, 2, 2, 2, **WIDE)(x)


def test_refining_below_the_first_lattice_is_allowed():
    x = scene("random_sparse").tensor(2)
    y = nn.SparseGenerativeConv3d(2, 2, 2, **WIDE)(x)
    assert y.stride == (1, 1, 1) and y.spatial_shape == (16, 16, 16)
