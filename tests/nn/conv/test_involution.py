"""Involution against its formula written out, with all gradients; its identities and refusals."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.nn.conv.involution import FAMILIES
from sparseconv.testing import laws, neighbours
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance
from sparseconv.testing.twins import assert_twins

CLOSE = tolerance(torch.float64, "formula")


def kernels(layer, centre):
    """H of the formula, [M, G, K], as the paper lays it out."""
    hidden = centre @ layer.reduce.weight.t()
    norm = layer.norm
    if isinstance(norm, nn.BatchNorm):
        if layer.training and len(centre) > 1:
            mean, var = hidden.mean(0), hidden.var(0, unbiased=False)
        else:
            mean, var = norm.running_mean, norm.running_var
        hidden = (hidden - mean) / (var + norm.eps).sqrt() * norm.weight + norm.bias
    elif isinstance(norm, torch.nn.LayerNorm):
        mean, var = hidden.mean(1, True), hidden.var(1, unbiased=False, keepdim=True)
        hidden = (hidden - mean) / (var + norm.eps).sqrt() * norm.weight + norm.bias
    spanned = hidden.clamp(min=0) @ layer.span.weight.t() + layer.span.bias
    return spanned.reshape(len(centre), layer.channels // layer.group_channels, -1)


def formula(layer, x, out, stride, taps):
    rows = neighbours.table(x.coords, out, taps, stride)
    centre = x.features
    if stride > 1:
        block = [[b, *(v // stride for v in at)] for b, *at in x.coords.tolist()]
        where = [[n for n, c in enumerate(block) if c == site] for site in out.tolist()]
        centre = torch.stack([x.features[members].mean(0) for members in where])
    h = kernels(layer, centre)
    read = neighbours.gathered(x.features, rows)
    grouped = read.reshape(*read.shape[:2], h.shape[1], layer.group_channels)
    return torch.einsum("mgk,mkgc->mgc", h, grouped).reshape(len(out), -1)


@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "one_voxel", "negative"])
@pytest.mark.parametrize(
    ("kernel", "dilation", "norm"), [(3, 1, "batch"), ((1, 3, 5), (1, 2, 1), "layer"), (3, 1, None)]
)
def test_formula(backend, name, kernel, dilation, norm):
    x = scene(name).tensor(8)
    x.features.requires_grad_()
    layer = nn.Involution3d(8, kernel, 1, 2, 2, dilation, norm, dtype=torch.float64)
    if norm:
        torch.nn.init.normal_(layer.norm.weight)
        torch.nn.init.normal_(layer.norm.bias)
    y = layer(x)
    assert y.coords is x.coords
    expected = formula(layer, x, x.coords, 1, neighbours.offsets(kernel, dilation))
    assert_twins(y.features, expected, [x.features, *layer.parameters()], **CLOSE)


@pytest.mark.parametrize("name", ["random_sparse", "line", "negative"])
@pytest.mark.parametrize("stride", [2, 3])
def test_stride(backend, name, stride):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = nn.Involution3d(4, 5, stride, 4, 1, dtype=torch.float64).eval()
    y = layer(x)
    blocks = {(b, *(v // stride for v in at)) for b, *at in x.coords.tolist()}
    assert {tuple(c) for c in y.coords.tolist()} == blocks
    expected = formula(layer, x, y.coords, stride, neighbours.offsets(5))
    assert_twins(y.features, expected, [x.features, *layer.parameters()], **CLOSE)


def test_dense_and_sparse_of_odd_extents(backend):
    grid = torch.randn(2, 4, 5, 3, 4, dtype=torch.float64)
    layer = nn.Involution3d(4, 3, 2, 2, dtype=torch.float64).eval()
    out = layer(grid)
    assert out.shape == (2, 4, 3, 2, 2)
    # a fixed kernel: the dense layer torch has
    torch.nn.init.zeros_(layer.span.weight)
    kappa = layer.span.bias.reshape(2, 27).repeat_interleave(2, 0).reshape(4, 1, 3, 3, 3)
    expected = dense.conv3d(grid, kappa, None, 2, 1, 1, 4)
    torch.testing.assert_close(layer(grid), expected, **CLOSE)


def test_a_kernel_that_is_the_same_everywhere_is_a_depthwise_convolution(backend):
    x = scene("random_sparse").tensor(6)
    layer = nn.Involution3d(6, 3, group_channels=3, dtype=torch.float64)
    torch.nn.init.zeros_(layer.span.weight)
    depthwise = nn.SubMConv3d(6, 6, 3, groups=6, bias=False, dtype=torch.float64)
    kappa = layer.span.bias.reshape(2, 3, 3, 3).repeat_interleave(3, 0)
    with torch.no_grad():
        depthwise.weight.copy_(kappa[:, None])
    torch.testing.assert_close(layer(x).features, depthwise(x).features, **CLOSE)


def test_laws(backend):
    x = scene("empty_batch_item").tensor(4)
    layer = nn.Involution3d(4, 3, group_channels=2, dtype=torch.float64).eval()
    laws.isolation(layer, x)
    laws.permutation(layer, x)
    laws.translation(layer, x, (3, -2, 1))
    strided = nn.Involution3d(4, 3, 2, 2, dtype=torch.float64).eval()
    laws.translation(strided, x, (2, -2, 4), (0.5, 0.5, 0.5))


def test_in_a_net_it_changes_channels(backend):
    x = scene("random_sparse").tensor(8)
    for width in (4, 8, 12):
        layer = FAMILIES[0].make(8, width, x.spatial_shape).double()
        assert layer(x).features.shape == (len(x), width)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"kernel_size": 2}, "kernel_size: expected odd sizes"),
        ({"group_channels": 3}, "group_channels: expected a divisor of 8 channels, found 3"),
        ({"group_channels": 0}, "group_channels"),
        ({"norm": "group"}, "norm: expected 'batch'"),
    ],
)
def test_refusals(kind, words):
    with pytest.raises(ValueError, match=words):
        nn.Involution3d(8, **{"group_channels": 4, **kind})


def test_refused_inputs():
    layer = nn.Involution3d(8, group_channels=4)
    with pytest.raises(ValueError, match=r"input of Involution3d: expected 8 channels, found 4"):
        layer(scene("line").tensor(4))
    with pytest.raises(ValueError, match=r"a dense \[B, C, X, Y, Z\]"):
        layer(torch.zeros(3, 8))
    with pytest.raises(TypeError, match="found str"):
        layer("x")
