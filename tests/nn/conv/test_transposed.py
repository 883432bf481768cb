"""The transposed convolution as the catalogue offers it, and as the adjoint it is."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.nn.families import family
from sparseconv.testing import laws
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}


@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "full_cube"])
def test_entry_is_torchs_convolution_at_the_sites(backend, name):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = family("transposed").make(4, 6, x.spatial_shape).double()
    full = dense.conv_transpose3d(grid_of(x), layer.conv.weight, layer.conv.bias, 1, 1)
    y = layer(x)
    assert y.shares_sites(x)
    assert_twins(y.features, at_sites(full, x), [x.features, *layer.parameters()])
    torch.testing.assert_close(layer(grid_of(x)), full)


@pytest.mark.parametrize("place", [(3, 1, 1, 1), (3, 2, 1, 1), (2, 3, 0, 1), (3, 1, 2, 2)], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_it_is_the_adjoint(backend, place, groups):
    kernel, stride, padding, dilation = place
    x = scene("random_sparse").tensor(4)
    there = nn.SparseConv3d(4, 6, *place, groups=groups, bias=False, **WIDE)
    back = nn.SparseConvTranspose3d(
        6, 4, kernel, stride, padding, 0, groups, False, dilation, **WIDE
    )
    back.weight = there.weight
    laws.adjoint(there, lambda y: back(y, x), x, **tolerance(torch.float64, "formula"))


@pytest.mark.parametrize("groups", [1, 2])
def test_rowwise_maps_have_theirs(backend, groups):
    # a pointwise layer's adjoint is one with the transposed weight of each group
    x = scene("random_sparse").tensor(4)
    there = nn.PointwiseConv3d(4, 6, False, groups=groups, **WIDE)
    back = nn.PointwiseConv3d(6, 4, False, groups=groups, **WIDE)
    with torch.no_grad():
        blocks = [block.flatten(1).T for block in there.weight.chunk(groups)]
        back.weight.copy_(torch.cat(blocks)[:, :, None, None, None])
    laws.adjoint(there, back, x, **tolerance(torch.float64, "formula"))


def test_a_depthwise_layer_mirrored_is_its_adjoint(backend):
    x = scene("backwards").tensor(4)
    there = nn.DepthwiseConv3d(4, 3, padding="subm", bias=False, **WIDE)
    back = nn.DepthwiseConv3d(4, 3, padding="subm", bias=False, **WIDE)
    with torch.no_grad():
        back.weight.copy_(there.weight.flip(2, 3, 4))
    laws.adjoint(there, back, x, **tolerance(torch.float64, "formula"))
