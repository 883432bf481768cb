"""The units of DiCENet and SKNet against their layers put together by hand, on dense grids."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv.nn.blocks.dice import DiCEUnit
from sparseconv.nn.blocks.selective_kernel import SKUnit
from sparseconv.testing import laws
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance
from sparseconv.testing.twins import assert_twins, at_sites, grid_of, occupied

CLOSE = tolerance(torch.float64, "formula")


def stirred(net):
    """Norms in evaluation mode with statistics of their own, parameters far from their start."""
    net = net.double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p += 0.3 * torch.randn_like(p)
        for name, b in net.named_buffers():
            if "running" in name:
                b += 0.5 * torch.rand_like(b)
    return net


def bn(norm, grid):
    args = (norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
    return dense.batch_norm(grid, *args)


@pytest.mark.parametrize("name", ["plane", "empty_batch_item"])
def test_dice(backend, name):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    unit = stirred(DiCEUnit(4, 6, x.spatial_shape))
    there, grid = occupied(x), grid_of(x)
    dim, first, _, join, second, _ = unit.local
    u = bn(first, dim(grid)).relu() * there
    u = bn(second, dense.conv3d(u, join.weight, None, groups=4)).relu() * there
    conv, third, _ = unit.project
    y = bn(third, dense.conv3d(u, conv.weight, None, padding=1, groups=2)).relu()
    mean = u.sum((2, 3, 4)) / there.sum((2, 3, 4)).clamp(min=1)
    squeeze, _, excite, _ = unit.gate
    a = torch.sigmoid(dense.linear(squeeze(mean).relu(), excite.weight, excite.bias))
    expected = at_sites(y * a[:, :, None, None, None], x)
    assert_twins(unit(x).features, expected, [x.features, *unit.parameters()], **CLOSE)
    laws.isolation(unit, x)


@pytest.mark.parametrize("width", [4, 6])
def test_selective_kernel_unit(backend, width):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    unit = stirred(SKUnit(4, width))
    down, first, _, sk, up, second = unit.branch
    h = bn(first, x.features @ down.weight.flatten(1).t()).relu()
    # the layer has a test of its own
    h = sk(x.replace(features=h)).features
    h = bn(second, h @ up.weight.flatten(1).t())
    kept = x.features
    if width != 4:
        kept = bn(unit.skip[1], kept @ unit.skip[0].weight.flatten(1).t())
    y = unit(x)
    assert_twins(y.features, (h + kept).relu(), [x.features, *unit.parameters()], **CLOSE)
    laws.isolation(unit, x)


@pytest.mark.parametrize("make", [lambda: DiCEUnit(4, 6, (4, 3, 5)), lambda: SKUnit(4, 6)])
def test_a_full_grid_is_dense(backend, make):
    x = scene("full_cube").tensor(4)
    unit = stirred(make())
    torch.testing.assert_close(at_sites(unit(grid_of(x)), x), unit(x).features)
