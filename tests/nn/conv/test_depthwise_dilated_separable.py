"""Dilated depthwise, then pointwise: torch's two convolutions in a chain."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}
CASES = [(3, 1, 1, 1), (3, 2, 1, 2), (2, 3, 1, 1), (3, (1, 2, 3), 1, 4), (3, 2, 2, 2), (4, 1, 2, 1)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(backend, case):
    kernel, dilation, stride, groups = case
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    layer = nn.DepthwiseDilatedSeparableConv3d(
        4, 8, kernel, dilation, stride, groups, bias=groups == 2, **WIDE
    )
    gaps = oracle.spread(dilation)
    half = tuple(d * (kernel - 1) // 2 for d in gaps)
    spec = Spec.of(kernel, stride, "same" if stride == 1 else half, dilation)
    full = oracle.dense_conv(grid_of(x), layer.depthwise.weight, None, spec, 4)
    full = dense.conv3d(full, layer.pointwise.weight, layer.pointwise.bias, groups=groups)
    y = layer(x)
    assert y.shares_sites(x) == (stride == 1)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])
    torch.testing.assert_close(layer(grid_of(x)), full)


def test_rate_one_is_the_undilated_layer(backend):
    x = scene("surface").tensor(4)
    layer = nn.DepthwiseDilatedSeparableConv3d(4, 6, bias=True, **WIDE)
    twin = nn.DepthwiseSeparableConv3d(4, 6, 3, padding="subm", **WIDE)
    twin.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x).features, twin(x).features)


def test_norm_and_activation_come_last(backend):
    x = scene("full_cube").tensor(4)
    layer = nn.DepthwiseDilatedSeparableConv3d(
        4, 6, dilation=2, norm="batch", act=nn.ReLU(), **WIDE
    )
    bare = nn.DepthwiseDilatedSeparableConv3d(4, 6, dilation=2, **WIDE)
    bare.load_state_dict(layer.state_dict(), strict=False)
    rows = bare(x).features
    expected = ((rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt()).relu()
    torch.testing.assert_close(layer(x).features, expected)
    torch.testing.assert_close(at_sites(layer(grid_of(x)), x), expected)
