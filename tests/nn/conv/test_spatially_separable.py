"""Spatially separable convolutions: one line after another, and the cube they stand for."""

import pytest
import torch

import sparseconv as sc
from sparseconv import nn
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of, occupied

WIDE = {"dtype": torch.float64}
EXACT = ("expand", "compose")
SHAPES = [(3, 1), (2, 1), ((3, 2, 5), 1), ((1, 3, 2), (1, 2, 3))]


def along(order, layer, axis):
    """The line of one axis, without its trivial axes: [D, C, k]."""
    return layer.lines[order.index("xyz"[axis])].weight.flatten(2)


def cube(layer, order, depthwise=False):
    """The product kernel, tap by tap, from the lines in their order."""
    lines = [line.weight.flatten(2) for line in layer.lines]
    sizes = [along(order, layer, axis).shape[2] for axis in range(3)]
    places = ["xyz".index(letter) for letter in order]
    taps = []
    for tap in torch.cartesian_prod(*(torch.arange(n) for n in sizes)).reshape(-1, 3).tolist():
        a, b, c = (line[:, :, tap[axis]] for line, axis in zip(lines, places, strict=True))
        taps.append(a * b * c if depthwise else c @ b @ a)
    return torch.stack(taps, -1).unflatten(-1, sizes)


@pytest.mark.parametrize("mode", EXACT)
@pytest.mark.parametrize(("kernel", "dilation"), SHAPES, ids=str)
@pytest.mark.parametrize("name", ["random_sparse", "backwards"])
def test_exact_modes_are_the_cube(backend, name, kernel, dilation, mode):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = nn.SpatiallySeparableConv3d(
        4, 6, kernel, 1, dilation, mid_channels=3, intermediate=mode, **WIDE
    )
    spec = Spec.of(kernel, 1, "same", dilation)
    full = oracle.dense_conv(grid_of(x), cube(layer, "xyz"), layer.lines[2].bias, spec)
    y = layer(x)
    assert y.shares_sites(x)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])


@pytest.mark.parametrize("mode", ["submanifold", *EXACT])
@pytest.mark.parametrize("order", ["xyz", "zxy"])
@pytest.mark.parametrize("depthwise", [False, True])
def test_every_mode_is_the_cube_on_full_grids(backend, mode, order, depthwise):
    x = scene("full_cube").tensor(4)
    x.features.requires_grad_()
    layer = nn.SpatiallySeparableConv3d(
        4, 4, (3, 2, 3), order=order, depthwise=depthwise, intermediate=mode, **WIDE
    )
    kernel = cube(layer, order, depthwise)
    spec, groups = Spec.of((3, 2, 3), 1, "same"), 4 if depthwise else 1
    full = oracle.dense_conv(grid_of(x), kernel, layer.lines[2].bias, spec, groups)
    assert_twins(layer(x).features, at_sites(full, x), [x.features, *layer.parameters()])
    assert_twins(layer(grid_of(x)), full, [x.features, *layer.parameters()])


@pytest.mark.parametrize("mode", EXACT)
@pytest.mark.parametrize("place", [(3, 2, 1), (2, 2, 1), (3, (1, 2, 3), (1, 1, 2))], ids=str)
def test_strides(backend, mode, place):
    kernel, stride, dilation = place
    x = scene("random_sparse").tensor(3)
    x.features.requires_grad_()
    layer = nn.SpatiallySeparableConv3d(
        3, 4, kernel, stride, dilation, intermediate=mode, order="yzx", **WIDE
    )
    half = tuple(d * (kernel - 1) // 2 for d in oracle.spread(dilation))
    spec = Spec.of(kernel, stride, half, dilation)
    full = oracle.dense_conv(grid_of(x), cube(layer, "yzx"), layer.lines[2].bias, spec)
    y = layer(x)
    sites = oracle.conv_sites(oracle.sites_of(x.coords), spec, x.spatial_shape)
    assert oracle.sites_of(y.coords) == sites
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    torch.testing.assert_close(layer(grid_of(x)), full)


def test_submanifold_is_masked_after_every_line(backend):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    layer = nn.SpatiallySeparableConv3d(4, 6, 3, **WIDE)
    full, mask = grid_of(x), occupied(x)
    for size, line in zip(((3, 1, 1), (1, 3, 1), (1, 1, 3)), layer.lines, strict=True):
        assert tuple(line.weight.shape[2:]) == size
        full = oracle.dense_conv(full * mask, line.weight, line.bias, Spec.of(size, 1, "same"))
    y = layer(x)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    # and so it is not the cube
    kernel = cube(layer, "xyz")
    whole = oracle.dense_conv(grid_of(x), kernel, layer.lines[2].bias, Spec.of(3, 1, "same"))
    assert (y.features - at_sites(whole, y)).abs().max() > 1e-3


def test_unbounded_lattices_are_grids_too(backend):
    x = scene("negative").tensor(3)
    layer = nn.SpatiallySeparableConv3d(3, 3, 3, intermediate="expand", **WIDE)
    twin = nn.SpatiallySeparableConv3d(3, 3, 3, intermediate="compose", **WIDE)
    twin.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x).features, twin(x).features)


def test_plans_know_the_sites_in_between(backend):
    x = scene("random_sparse").tensor(3)
    layer = nn.SpatiallySeparableConv3d(3, 3, 3, intermediate="expand", **WIDE)
    plan = sc.plan(layer, x)
    assert not plan.left_out
    assert len(plan.levels) == 2 and len(plan.rulebooks) == 3
    y = plan.build(scene("random_sparse").tensor(3))
    before = set(y.topology.rulebooks), set(y.topology.levels)
    layer(y)
    assert before == (set(y.topology.rulebooks), set(y.topology.levels))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stride": 2}, "intermediate: expected 'expand' or 'compose'"),
        ({"intermediate": "dense"}, "intermediate: expected one of"),
        ({"order": "xyx"}, "order: expected the letters x, y and z, found 'xyx'"),
        ({"depthwise": True}, "depthwise: expected equal"),
    ],
)
def test_refusals(change, words):
    given = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, **change}
    with pytest.raises(ValueError, match=words):
        nn.SpatiallySeparableConv3d(**given)
    with pytest.raises(ValueError, match="expected 4 channels"):
        nn.SpatiallySeparableConv3d(4, 4, 3)(scene("line").tensor(3))
