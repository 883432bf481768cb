"""Blocks of known networks: torch's layers in a chain, occupancy put back after every one."""

import copy

import pytest
import torch
from torch.nn import functional as dense

import sparseconv as sc
from sparseconv import nn
from sparseconv.testing import laws, oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance
from sparseconv.testing.twins import assert_twins, at_sites, grid_of, occupied

CUBE = Spec.of(3, 1, 1)
HALF = Spec.of(3, 2, 1)
BLOCKS = {
    "mobile": lambda: nn.MobileNetBlock(8, 12),
    "mobile, strided": lambda: nn.MobileNetBlock(8, 12, stride=2),
    "xception": lambda: nn.XceptionBlock(8, 8, 3),
    "xception, wider": lambda: nn.XceptionBlock(8, 12, first_relu=False),
    "xception, strided": lambda: nn.XceptionBlock(8, 12, stride=2),
    "shuffle": lambda: nn.ShuffleNetUnit(8, 8, 2),
    "shuffle, strided": lambda: nn.ShuffleNetUnit(8, 24, 2, stride=2, first_groups=1),
    "eesp": lambda: nn.EESPBlock(8, 8, 2),
    "eesp, wider": lambda: nn.EESPBlock(8, 32, 4),
}


@pytest.fixture(params=BLOCKS)
def block(request):
    """A block in double precision, nothing in it left as it begins."""
    made = BLOCKS[request.param]().double()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm):
            for part in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(part)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return made.eval()


def norm(grid, module):
    mean, var, w, b = (
        t.reshape(-1, 1, 1, 1)
        for t in (module.running_mean, module.running_var, module.weight, module.bias)
    )
    return (grid - mean) / (var + module.eps).sqrt() * w + b


def conv(grid, layer, spec=CUBE):
    if layer.weight.shape[2:].numel() == 1:
        spec = Spec.of(1, layer.stride)
    return oracle.dense_conv(grid, layer.weight, layer.bias, spec, layer.groups)


def mobile(block, grid, here, there, spec):
    depthwise, first, _, pointwise, second, _ = block
    y = norm(conv(grid, depthwise, spec), first).relu() * there
    return norm(conv(y, pointwise), second).relu()


def xception(block, grid, here, there, spec):
    y = grid
    for layer in block.layers:
        if isinstance(layer, nn.ReLU):
            y = y.relu()
        elif isinstance(layer, nn.BatchNorm):
            y = norm(y, layer) * here
        else:
            y = conv(conv(y, layer.depthwise), layer.pointwise)
    if block.pool is not None:
        y = dense.max_pool3d(y.where(here.bool(), -torch.inf), 3, 2, 1)
        y = y.where(there.bool(), 0)
    return y + (grid if block.skip is None else norm(conv(grid, block.skip), block.skip_norm))


def shuffle(block, grid, here, there, spec):
    reduce, first, _, depthwise, second, widen, third = block.branch
    y = grid
    if isinstance(reduce, nn.ShuffledGroupConv3d):
        y = conv(y, reduce.conv)
        n = y.shape[1] // reduce.conv.groups
        y = torch.cat([y[:, j::n] for j in range(n)], 1)
    else:
        y = conv(y, reduce)
    y = norm(y, first).relu() * here
    y = norm(conv(y, depthwise, spec), second) * there
    y = norm(conv(y, widen), third)
    if block.pool is None:
        return (grid + y).relu()
    window = torch.ones(1, 1, 3, 3, 3, dtype=torch.float64)
    count = dense.conv3d(here, window, stride=2, padding=1).clamp(min=1)
    mean = dense.conv3d(grid, window.expand(8, 1, 3, 3, 3), None, 2, 1, 1, 8) / count
    return torch.cat([mean, y], 1).relu()


def eesp(block, grid, here, there, spec):
    reduce, first, act = block.reduce
    reduced = dense.prelu(norm(conv(grid, reduce), first), act.weight) * here
    parts = []
    for rate, branch in zip(block.rates, block.branches, strict=True):
        parts.append(conv(reduced, branch, Spec.of(3, 1, rate, rate)))
        if len(parts) > 1:
            parts[-1] = parts[-1] + parts[-2]
    before, act, merge, after = block.merge
    y = dense.prelu(norm(torch.cat(parts, 1), before), act.weight) * here
    y = norm(conv(y, merge), after)
    return dense.prelu(y + grid if block.adds else y, block.act.weight)


ORACLES = {
    nn.MobileNetBlock: mobile,
    nn.XceptionBlock: xception,
    nn.ShuffleNetUnit: shuffle,
    nn.EESPBlock: eesp,
}


@pytest.mark.parametrize("name", ["random_sparse", "full_cube"])
def test_values_and_gradients(backend, block, name):
    x = scene(name).tensor(8)
    x.features.requires_grad_()
    y = block(x)
    strided = y.stride != (1, 1, 1)
    spec = HALF if strided else CUBE
    sites = oracle.sites_of(x.coords)
    if strided:
        assert oracle.sites_of(y.coords) == oracle.conv_sites(sites, HALF, x.spatial_shape)
    else:
        assert y.shares_sites(x)
    expected = ORACLES[type(block)](block, grid_of(x), occupied(x), occupied(y), spec)
    assert_twins(y.features, at_sites(expected, y), [x.features, *block.parameters()])
    if name == "full_cube":
        torch.testing.assert_close(block(grid_of(x)), expected)


def test_laws(block):
    x = scene("random_sparse").tensor(8)
    close = tolerance(torch.float64, "formula")
    laws.permutation(block, x, **close)
    laws.isolation(block, x)
    laws.translation(block, x, (2, -4, 6), [1 / s for s in block(x).stride], **close)
    for name in ("empty", "one_voxel", "empty_batch_item"):
        assert block(scene(name).tensor(8)).features.isfinite().all()


def test_training_and_folding(block):
    x = scene("random_sparse").tensor(8)
    twin = copy.deepcopy(block).train()
    twin(x).features.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in twin.parameters())
    with torch.no_grad():
        torch.testing.assert_close(sc.nn.fuse(block)(x).features, block(x).features)


@pytest.mark.parametrize("block", ["xception, strided"], indirect=True)
def test_a_graph_for_scans_of_any_size(block):
    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend="eager")
    for name in ("negative", "random_sparse"):
        x = scene(name).tensor(8)
        torch.testing.assert_close(compiled(x).features, block(x).features)
    torch._dynamo.reset()


def test_plans_know_all_sites(block):
    plan = sc.plan(block, scene("random_sparse").tensor(8))
    assert not plan.left_out
    x = plan.build(scene("backwards").tensor(8))
    kept = set(x.topology.rulebooks)
    block(x)
    assert set(x.topology.rulebooks) == kept


def test_rates_beyond_the_view_become_one():
    assert nn.EESPBlock(8, 32, 4).rates == [1, 1, 2, 3]
    assert nn.EESPBlock(8, 32, 4, receptive_field=9).rates == [1, 2, 3, 4]


def test_refusals():
    with pytest.raises(ValueError, match="stride: expected 1 or 2"):
        nn.ShuffleNetUnit(8, 8, 2, 3)
    with pytest.raises(ValueError, match="out_channels: expected 8 with stride 1"):
        nn.ShuffleNetUnit(8, 16, 2)
    with pytest.raises(ValueError, match=r"out_channels: .*found 8 with stride 2"):
        nn.ShuffleNetUnit(8, 8, 2, 2)
    with pytest.raises(ValueError, match="branches: expected a divisor"):
        nn.EESPBlock(8, 8, 4)
    with pytest.raises(ValueError, match="repeats"):
        nn.XceptionBlock(8, 8, 0)
