"""The groupwise pointwise layer is torch's grouped convolution of kernel 1."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}


@pytest.mark.parametrize("name", ["random_sparse", "full_cube"])
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_values_and_gradients(backend, name, groups):
    x = scene(name).tensor(6)
    x.features.requires_grad_()
    layer = nn.GroupPointwiseConv3d(6, 12, groups, bias=groups == 3, **WIDE)
    full = dense.conv3d(grid_of(x), layer.weight, layer.bias, groups=groups)
    y = layer(x)
    assert y.shares_sites(x)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    assert_twins(layer(grid_of(x)), full, [x.features, *layer.parameters()])


def test_it_is_a_block_diagonal_matrix(backend):
    x = scene("random_sparse").tensor(6)
    layer = nn.GroupPointwiseConv3d(6, 4, 2, **WIDE)
    matrix = torch.block_diag(*layer.weight.flatten(1).chunk(2))
    torch.testing.assert_close(layer(x).features, x.features @ matrix.T)


def test_branches_side_by_side_are_groups(backend):
    # true only where the channels of a branch lie together
    x = scene("random_sparse").tensor(6)
    layer = nn.GroupPointwiseConv3d(6, 9, 3, **WIDE)
    parts = [
        piece @ block.flatten(1).T
        for piece, block in zip(x.features.chunk(3, 1), layer.weight.chunk(3), strict=True)
    ]
    torch.testing.assert_close(layer(x).features, torch.cat(parts, 1))


def test_groups_must_divide():
    with pytest.raises(ValueError, match="groups"):
        nn.GroupPointwiseConv3d(6, 4, 3)
