"""CondConv equals a dense convolution of each scan with the kernel its mean mixes."""

import pytest
import torch

from sparseconv import nn
from sparseconv.testing import laws
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scans import convolved, means
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}
NAMES = ["random_sparse", "empty_batch_item", "same_xyz", "one_voxel"]


def mixed_densely(layer, x, gates, spec):
    kernels = torch.einsum("be,e...->b...", gates, layer.weight)
    bias = None if layer.bias is None else gates @ layer.bias
    return convolved(grid_of(x), kernels, bias, spec, layer.groups)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pool", ["active", "volume"])
def test_submanifold(backend, name, pool):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = nn.CondConv3d(4, 6, 3, padding="subm", groups=2, num_experts=3, pool=pool, **WIDE)
    gates = torch.sigmoid(means(x, pool) @ layer.routing.weight.T + layer.routing.bias)
    y = layer(x)
    assert y.coords is x.coords
    expected = at_sites(mixed_densely(layer, x, gates, Spec.of(3, 1, "same")), y)
    assert_twins(y.features, expected, [x.features, *layer.parameters()])


@pytest.mark.parametrize("geometry", [(2, 2, 0), (3, 2, 1), ((3, 1, 2), 1, (0, 1, 2))], ids=str)
def test_strided(backend, geometry):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    layer = nn.CondConv3d(4, 6, *geometry, num_experts=2, bias=False, **WIDE)
    gates = torch.sigmoid(means(x) @ layer.routing.weight.T + layer.routing.bias)
    y = layer(x)
    expected = at_sites(mixed_densely(layer, x, gates, Spec.of(*geometry)), y)
    assert_twins(y.features, expected, [x.features, *layer.parameters()])


@pytest.mark.parametrize("padding", ["subm", 1])
def test_a_dense_tensor(padding):
    grid = torch.randn(3, 4, 3, 5, 4, **WIDE)
    layer = nn.CondConv3d(4, 6, (3, 2, 3), padding=padding, groups=2, **WIDE)
    gates = torch.sigmoid(grid.mean((2, 3, 4)) @ layer.routing.weight.T + layer.routing.bias)
    kernels = torch.einsum("be,e...->b...", gates, layer.weight)
    spec = Spec.of((3, 2, 3), 1, "same" if padding == "subm" else 1)
    expected = convolved(grid, kernels, gates @ layer.bias, spec, 2)
    assert_twins(layer(grid), expected, layer.parameters())


def test_with_means_over_the_volume_sparse_is_dense():
    x = scene("random_sparse").tensor(4)
    layer = nn.CondConv3d(4, 6, 3, padding="subm", pool="volume", **WIDE)
    torch.testing.assert_close(layer(x).features, at_sites(layer(grid_of(x)), x))


def test_gates_that_choose_one_expert_give_its_convolution(backend):
    x = scene("random_sparse").tensor(4)
    layer = nn.CondConv3d(4, 6, 3, padding="subm", routing="external", **WIDE)
    plain = nn.SubMConv3d(4, 6, 3, **WIDE)
    chosen = torch.tensor([2, 0, 3])
    y = layer(x, torch.eye(4, **WIDE)[chosen])
    for item, expert in enumerate(chosen):
        with torch.no_grad():
            plain.weight.copy_(layer.weight[expert])
            plain.bias.copy_(layer.bias[expert])
        mine = x.coords[:, 0] == item
        torch.testing.assert_close(y.features[mine], plain(x).features[mine])


def test_equal_experts_are_one_times_the_sum_of_gates():
    x = scene("one_voxel").tensor(4)
    layer = nn.CondConv3d(4, 6, 3, padding="subm", routing="external", bias=False, **WIDE)
    plain = nn.SubMConv3d(4, 6, 3, bias=False, **WIDE)
    with torch.no_grad():
        layer.weight.copy_(plain.weight)
    gates = torch.rand(1, 4, **WIDE)
    torch.testing.assert_close(layer(x, gates).features, gates.sum() * plain(x).features)


def test_a_single_open_gate_is_a_plain_convolution():
    x = scene("random_sparse").tensor(4)
    layer = nn.CondConv3d(4, 6, 3, padding="subm", num_experts=1, **WIDE)
    plain = nn.SubMConv3d(4, 6, 3, **WIDE)
    with torch.no_grad():
        layer.routing.bias.fill_(100)
        plain.weight.copy_(layer.weight[0])
        plain.bias.copy_(layer.bias[0])
    torch.testing.assert_close(layer(x).features, plain(x).features)


def test_scans_do_not_meet(backend):
    layer = nn.CondConv3d(4, 6, 3, padding="subm", **WIDE)
    laws.isolation(layer, scene("same_xyz").tensor(4))


def test_each_expert_is_drawn_with_its_own_fan_in():
    layer = nn.CondConv3d(16, 8, 3, num_experts=8)
    bound = (16 * 27) ** -0.5
    for expert in layer.weight:
        assert 0.95 * bound < expert.abs().max() <= bound
    assert "per_scan=3456" in repr(layer) and "num_experts=8" in repr(layer)


def test_refusals():
    x = scene("random_sparse").tensor(4)
    with pytest.raises(ValueError, match="num_experts"):
        nn.CondConv3d(4, 4, 3, num_experts=0)
    with pytest.raises(ValueError, match="routing: expected 'internal'"):
        nn.CondConv3d(4, 4, 3, routing="none")
    with pytest.raises(ValueError, match="pool: expected"):
        nn.CondConv3d(4, 4, 3, pool="max")
    with pytest.raises(ValueError, match="groups: expected a divisor"):
        nn.CondConv3d(4, 4, 3, groups=3)
    with pytest.raises(ValueError, match="in_channels"):
        nn.CondConv3d(0, 4, 3)
    with pytest.raises(ValueError, match="padding: expected a number"):
        nn.CondConv3d(4, 4, 3, 2, padding="subm")
    layer = nn.CondConv3d(4, 4, 3, routing="external", **WIDE)
    with pytest.raises(ValueError, match="routing: expected gates"):
        layer(x)
    with pytest.raises(ValueError, match=r"routing: expected \[3, 4\]"):
        layer(x, torch.ones(2, 4, **WIDE))
    with pytest.raises(ValueError, match="input of CondConv3d: expected 4 channels"):
        layer(scene("random_sparse").tensor(5))
