"""Inception: torch's towers, masked in between, side by side."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of, occupied

WIDE = {"dtype": torch.float64}


def towers_of(layer, x, act=lambda rows: rows):
    """The convolution towers on the grid of x, occupancy put back after every stage."""
    grid, mask, parts = grid_of(x), occupied(x), []
    for tower in layer.towers:
        y = grid
        for stage in tower.layers:
            spec = Spec.of(tuple(stage.weight.shape[2:]), 1, "same")
            y = act(oracle.dense_conv(y, stage.weight, stage.bias, spec)) * mask
        parts.append(y)
    return torch.cat(parts, 1)


@pytest.mark.parametrize("name", ["random_sparse", "full_cube", "empty_batch_item"])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients(backend, name, bias):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = nn.InceptionConv3d(
        4, 11, (1, 3, (2, 1, 5)), mid_channels=3, act=nn.GELU(), bias=bias, **WIDE
    )
    y = layer(x)
    assert y.shares_sites(x) and [len(t.layers) for t in layer.towers] == [1, 2, 2]
    full = towers_of(layer, x, dense.gelu)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    if name == "full_cube":
        assert_twins(layer(grid_of(x)), full, [x.features, *layer.parameters()])


def test_a_norm_behind_every_convolution(backend):
    x = scene("full_cube").tensor(4)
    layer = nn.InceptionConv3d(4, 6, (1, 3), norm="batch", act=nn.ReLU(), pool_tower=True, **WIDE)
    assert sum(isinstance(m, nn.BatchNorm) for m in layer.modules()) == 4
    y = layer(x)
    assert torch.all(y.features >= 0)
    torch.testing.assert_close(at_sites(layer(grid_of(x)), x), y.features)


@pytest.mark.parametrize("name", ["random_sparse", "backwards"])
def test_the_pool_tower_takes_present_neighbours(backend, name):
    # with 0 for absent ones, no maximum of negative numbers would be right
    x = scene(name).tensor(3)
    x = x.replace(features=-x.features.abs() - 1)
    x.features.requires_grad_()
    layer = nn.InceptionConv3d(3, 4, (1,), out_split=(1, 3), pool_tower=True, **WIDE)
    grid, mask = grid_of(x), occupied(x)
    pooled = dense.max_pool3d(grid.where(mask.bool(), -torch.inf), 3, 1, 1)
    (pointwise,) = layer.towers[1].layers
    expected = at_sites(pooled, x) @ pointwise.weight.flatten(1).T + pointwise.bias
    made_of = [x.features, *pointwise.parameters()]
    assert_twins(layer(x).features[:, 1:], expected, made_of)


def test_equal_towers_are_one_grouped_convolution(backend):
    x = scene("surface").tensor(4)
    layer = nn.InceptionConv3d(4, 6, (3, 3, 3), **WIDE)
    first = nn.PointwiseConv3d(4, 6, **WIDE)
    second = nn.SubMConv3d(6, 6, 3, groups=3, **WIDE)
    with torch.no_grad():
        for place, target in enumerate((first, second)):
            for name in ("weight", "bias"):
                parts = [getattr(tower.layers[place], name) for tower in layer.towers]
                getattr(target, name).copy_(torch.cat(parts))
    torch.testing.assert_close(layer(x).features, second(first(x)).features)


def test_equal_kernels_share_a_rulebook():
    x = scene("random_sparse").tensor(4)
    nn.InceptionConv3d(4, 8, (3, 3, 3), pool_tower=True, **WIDE)(x)
    assert len(x.topology.rulebooks) == 1


def test_channels_left_over_go_to_the_first_tower():
    layer = nn.InceptionConv3d(4, 11, (1, 3, 5))
    assert [tower.layers[-1].out_channels for tower in layer.towers] == [5, 3, 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"out_split": (4, 4)}, "out_split: expected 3 numbers"),
        ({"out_split": (4, 4, 1)}, "out_split: .*add up to 8"),
        ({"out_channels": 2}, "out_split: .*found"),
        ({"mid_channels": (4,)}, "mid_channels: expected 3 numbers"),
        ({"kernel_sizes": ()}, "kernel_sizes: expected at least one tower"),
        ({"norm": "group"}, "norm: expected"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(ValueError, match=words):
        nn.InceptionConv3d(**{"in_channels": 4, "out_channels": 8, **change})
    with pytest.raises(ValueError, match="expected 4 channels"):
        nn.InceptionConv3d(4, 8)(scene("line").tensor(3))
