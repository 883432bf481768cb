"""The regular convolution as the catalogue offers it: read at the sites of its input."""

import pytest
import torch

from sparseconv import nn
from sparseconv.nn.families import family
from sparseconv.testing import laws, oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}


@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "full_cube"])
def test_entry_is_torchs_convolution_at_the_sites(backend, name):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = family("sparse").make(4, 6, x.spatial_shape).double()
    weight, bias = layer.conv.weight, layer.conv.bias
    full = oracle.dense_conv(grid_of(x), weight, bias, Spec.of(3, 1, 1))
    y = layer(x)
    assert y.shares_sites(x)
    assert_twins(y.features, at_sites(full, x), [x.features, *layer.parameters()])
    torch.testing.assert_close(layer(grid_of(x)), full)


def test_it_shares_the_rulebook_of_submanifold_layers():
    x = scene("random_sparse").tensor(4)
    family("sparse").make(4, 4, None).double()(nn.SubMConv3d(4, 4, 3, **WIDE)(x))
    assert len(x.topology.rulebooks) == 1


def test_steps_move_the_result(backend):
    layer = nn.SparseConv3d(4, 3, 3, 2, 1, **WIDE)
    x = scene("negative").tensor(4)
    laws.translation(layer, x, (2, -4, 6), (0.5, 0.5, 0.5), **tolerance(torch.float64, "formula"))
