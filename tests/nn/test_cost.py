"""What a layer is said to cost is what its pairs and matrices make it cost."""

import pytest
import torch

import sparseconv as sc
from sparseconv.nn.cost import FORMULAS, PLACING, cost
from sparseconv.testing import samples
from sparseconv.testing.scenes import scene


@pytest.fixture
def x():
    return scene("random_sparse").tensor(4, torch.float32)


def test_a_convolution_costs_two_operations_a_pair_and_product(backend, x):
    layer = sc.nn.SubMConv3d(4, 6, 3, groups=2)
    pairs = len(x.topology.rulebook(x.level, x.level, layer.geometry))
    found = cost(layer, x)
    assert found.flops == 2 * pairs * 2 * 6
    assert found.parameters == 27 * 2 * 6 + 6 and found.primitives == ("conv",)


def test_of_torchs_own_ops(x):
    assert cost(torch.nn.Linear(4, 6), x.features).flops == 2 * len(x) * 4 * 6
    grid = torch.randn(1, 4, 5, 5, 5)
    assert cost(sc.nn.SubMConv3d(4, 6, 3), grid).flops == 2 * 125 * 27 * 4 * 6


def test_layers_add_up(x):
    a, b = sc.nn.SubMConv3d(4, 6, 3), sc.nn.SparseConv3d(6, 8, 2, 2)
    both = cost(sc.nn.Sequential(a, b), x)
    one, two = cost(a, x), cost(b, a(x))
    assert both.flops == one.flops + two.flops
    assert both.parameters == one.parameters + two.parameters


def test_every_op_is_known():
    arithmetic = {s.op for s in (*samples.arithmetic(), *samples.inference())}
    elementwise = {"running_sums", "pool_max", "batch_norm", "norm_apply", "norm_grad"}
    backward = {op for op in arithmetic if op.endswith(("_grad", "_grad_weight"))}
    assert {s.op for s in samples.placement()} <= PLACING
    assert arithmetic - elementwise - backward <= set(FORMULAS)
