"""Weights of other libraries, read in their own layouts by plain loops over taps."""

import itertools

import pytest
import torch

from sparseconv import nn
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance

WIDE = {"dtype": torch.float64}
CLOSE = tolerance(torch.float64, "formula")
SIZE = (3, 1, 5)
TAPS = list(itertools.product(*(range(n) for n in SIZE)))


def summed(x, out, matrix, reads):
    """Add up `x[reads(o, tap)] matrix(tap)` over all taps of all sites."""
    rows = {tuple(c): n for n, c in enumerate(x.coords.tolist())}
    y = torch.zeros(len(out), 6, **WIDE)
    for o, (b, *at) in enumerate(out.tolist()):
        for t, tap in enumerate(TAPS):
            site = reads(at, tap)
            if site is not None and (i := rows.get((b, *site))) is not None:
                y[o] += x.features[i] @ matrix(t, tap)
    return y


def about(at, tap):
    return [a + i - (n - 1) // 2 for a, i, n in zip(at, tap, SIZE, strict=True)]


def block_matrix(groups):  # [G, C / G, D / G] to [C, D]
    return torch.block_diag(*groups)


@pytest.mark.parametrize("form", ["groups", "one group", "taps", "flat"])
def test_sparse_conv_net(form):
    x = scene("random_sparse").tensor(4)
    groups = 2 if form == "groups" else 1
    layer = nn.SubMConv3d(4, 6, SIZE, groups=groups, **WIDE)
    weight, bias = torch.randn(15, groups, 4 // groups, 6 // groups, **WIDE), torch.randn(6, **WIDE)
    given = {"taps": weight.flatten(0, 1), "flat": weight.flatten(0, 2)}.get(form, weight)
    nn.load_foreign(layer, given, bias, layout="scn")
    expected = summed(x, x.coords, lambda t, _: block_matrix(weight[t]), about) + bias
    torch.testing.assert_close(layer(x).features, expected, **CLOSE)


def test_spconv():
    x = scene("random_sparse").tensor(4)
    layer = nn.SubMConv3d(4, 6, SIZE, bias=False, **WIDE)
    weight = torch.randn(6, *SIZE, 4, **WIDE)
    nn.load_foreign(layer, weight, layout="spconv")
    expected = summed(x, x.coords, lambda _, tap: weight[(slice(None), *tap)].T, about)
    torch.testing.assert_close(layer(x).features, expected, **CLOSE)


@pytest.mark.parametrize("layout", ["scn", "spconv"])
def test_back_to_the_finer_sites(layout):
    fine = scene("random_sparse").tensor(3)
    x = nn.SparseConv3d(3, 4, SIZE, 2, **WIDE)(fine)
    layer = nn.SparseInverseConv3d(4, 6, SIZE, 2, bias=False, **WIDE)
    scn, spconv = torch.randn(15, 1, 4, 6, **WIDE), torch.randn(6, *SIZE, 4, **WIDE)
    nn.load_foreign(layer, scn if layout == "scn" else spconv, layout=layout)

    def matrix(t, tap):
        return scn[t, 0] if layout == "scn" else spconv[(slice(None), *tap)].T

    def reads(at, tap):
        # site u is tap i of o where u = 2 o + i
        steps = [a - i for a, i in zip(at, tap, strict=True)]
        return None if any(s % 2 for s in steps) else [s // 2 for s in steps]

    y = layer(x)
    torch.testing.assert_close(y.features, summed(x, y.coords, matrix, reads), **CLOSE)


def test_scn_init():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.SubMConv3d(32, 64, 3), nn.BatchNorm(64), nn.SubMConv3d(64, 64, 3, groups=4)
    )
    net.append(nn.SparseConvTranspose3d(64, 96, 2, 2))
    norm = net[1].weight.clone()
    assert nn.scn_init(net) is net
    for layer, channels, taps in ((net[0], 32, 27), (net[2], 16, 27), (net[3], 64, 8)):
        spread = (2 / (channels * taps)) ** 0.5
        assert layer.weight.detach().std().item() == pytest.approx(spread, rel=0.02)
        assert abs(layer.weight.detach().mean().item()) < 0.02 * spread
        assert not layer.bias.any()
    assert torch.equal(net[1].weight, norm)


def test_refusals():
    layer, weight = nn.SubMConv3d(4, 6, 3, bias=False), torch.zeros(27, 1, 4, 6)
    with pytest.raises(TypeError, match="layer: expected a convolution"):
        nn.load_foreign(torch.nn.Linear(4, 6), weight, layout="scn")
    with pytest.raises(ValueError, match="layout: expected 'scn' or 'spconv'"):
        nn.load_foreign(layer, weight, layout="minkowski")
    with pytest.raises(ValueError, match=r"weight: expected \[27, 1, 4, 6\], found \[6, 4, 27\]"):
        nn.load_foreign(layer, weight.reshape(6, 4, 27), layout="scn")
    with pytest.raises(ValueError, match=r"weight: expected \[6, 3, 3, 3, 4\]"):
        nn.load_foreign(layer, weight, layout="spconv")
    with pytest.raises(ValueError, match="bias: expected none, found one"):
        nn.load_foreign(layer, weight, torch.zeros(6), layout="scn")
    with pytest.raises(ValueError, match="kernel_size: expected odd sizes"):
        nn.load_foreign(nn.SubMConv3d(4, 6, 4, bias=False), torch.zeros(64, 4, 6), layout="scn")
    with pytest.raises(ValueError, match="kernel_size: expected odd sizes"):
        nn.load_foreign(nn.SubMConv3d(4, 6, 2, bias=False), torch.zeros(8, 4, 6), layout="scn")
