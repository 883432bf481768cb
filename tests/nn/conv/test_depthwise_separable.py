"""Depthwise, then pointwise: torch's two convolutions in a chain, masked in between."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of, occupied

WIDE = {"dtype": torch.float64}
PLACES = [(3, 1, "subm", 1), (2, 1, "subm", 3), (3, 2, 1, 1), (2, 2, 0, 1), (3, 1, 1, 1)]


def spec_of(kernel, stride, padding, dilation):
    return Spec.of(kernel, stride, "same" if padding == "subm" else padding, dilation)


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients(backend, place, bias):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    layer = nn.DepthwiseSeparableConv3d(4, 6, *place, bias, **WIDE)
    assert layer.depthwise.bias is None
    full = oracle.dense_conv(grid_of(x), layer.depthwise.weight, None, spec_of(*place), 4)
    full = dense.conv3d(full, layer.pointwise.weight, layer.pointwise.bias)
    y = layer(x)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    torch.testing.assert_close(layer(grid_of(x)), full)


def test_channels_first(backend):
    x = scene("backwards").tensor(4)
    x.features.requires_grad_()
    layer = nn.DepthwiseSeparableConv3d(4, 6, 3, padding="subm", order="pw_dw", **WIDE)
    assert layer.pointwise.bias is None and layer.depthwise.in_channels == 6
    full = dense.conv3d(grid_of(x), layer.pointwise.weight)
    full = dense.conv3d(full, layer.depthwise.weight, layer.depthwise.bias, padding=1, groups=6)
    y = layer(x)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])


@pytest.mark.parametrize("name", ["full_cube", "random_sparse"])
def test_norm_and_activation_act_at_active_sites(backend, name):
    # a batch norm turns empty cells into its bias: the dense chain needs the mask again
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = nn.DepthwiseSeparableConv3d(
        4, 6, 3, 1, "subm", mid_norm="batch", mid_act=nn.GELU(), order="pw_dw", **WIDE
    )
    torch.nn.init.normal_(layer.mid_norm.bias)
    mask = occupied(x)
    full = dense.conv3d(grid_of(x), layer.pointwise.weight)
    count = mask.sum()
    mean = full.sum((0, 2, 3, 4), keepdim=True) / count
    var = (((full - mean) * mask) ** 2).sum((0, 2, 3, 4), keepdim=True) / count
    scale, shift = (t.reshape(1, -1, 1, 1, 1) for t in (layer.mid_norm.weight, layer.mid_norm.bias))
    full = (full - mean) / (var + layer.mid_norm.eps).sqrt() * scale + shift
    full = dense.gelu(full) * mask
    full = dense.conv3d(full, layer.depthwise.weight, layer.depthwise.bias, padding=1, groups=6)
    y = layer(x)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    if name == "full_cube":
        torch.testing.assert_close(layer(grid_of(x)), full)


@pytest.mark.parametrize("order", ["dw_pw", "pw_dw"])
def test_without_bias_it_is_one_convolution(backend, order):
    x = scene("surface").tensor(3)
    layer = nn.DepthwiseSeparableConv3d(3, 5, 3, 1, "subm", bias=False, order=order, **WIDE)
    whole = nn.SubMConv3d(3, 5, 3, bias=False, **WIDE)
    around, across = layer.depthwise.weight[:, 0], layer.pointwise.weight[:, :, 0, 0, 0]
    product = {"dw_pw": "oc,cxyz->ocxyz", "pw_dw": "oc,oxyz->ocxyz"}[order]
    with torch.no_grad():
        whole.weight.copy_(torch.einsum(product, across, around))
    torch.testing.assert_close(layer(x).features, whole(x).features)


def test_refusals():
    with pytest.raises(ValueError, match="order: expected 'dw_pw' or 'pw_dw', found 'dwpw'"):
        nn.DepthwiseSeparableConv3d(4, 4, 3, order="dwpw")
