"""Every convolution layer is torch's dense one of the zero-filled grid, read at the sites."""

from itertools import product

import pytest
import torch
from torch import nn as dense

from sparseconv import nn
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance

CLOSE = tolerance(torch.float64, "formula")
WIDE = {"dtype": torch.float64}
ODD = ((3, 1, 2), (1, 2, 3), (0, 1, 2), (2, 1, 1))


def grid_of(x):
    return oracle.densify(oracle.sites_of(x.coords), x.features, x.spatial_shape, x.batch_size)


def check(layer, x, full, out):
    """Compare values, sites, shape, stride and gradients with the dense result `full`."""
    y = layer(x)
    assert oracle.sites_of(y.coords) == out
    assert y.batch_size == x.batch_size
    at_sites = oracle.read(full, out)
    torch.testing.assert_close(y.features, at_sites, **CLOSE)
    probe = torch.randn_like(y.features)
    wanted = [t for t in (x.features, layer.weight, layer.bias) if t is not None]
    found = torch.autograd.grad((y.features * probe).sum(), wanted, allow_unused=True)
    expected = torch.autograd.grad((at_sites * probe).sum(), wanted, allow_unused=True)
    for a, b, like in zip(found, expected, wanted, strict=True):
        a, b = (torch.zeros_like(like) if g is None else g for g in (a, b))
        torch.testing.assert_close(a, b, **CLOSE)
    return y


SUBM = [(k, d) for k, d in product((1, 2, 3, 4, 5), (1, 2, 3)) if k * d < 13]
SUBM += [((1, 2, 3), 1), ((5, 1, 1), (1, 2, 3)), ((2, 4, 3), (3, 1, 2))]


@pytest.mark.parametrize(("kernel", "dilation"), SUBM, ids=str)
@pytest.mark.parametrize("name", ["backwards", "full_cube", "empty_batch_item"])
def test_submanifold(backend, name, kernel, dilation):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    groups = 2 if kernel == 3 else 1
    layer = nn.SubMConv3d(4, 6, kernel, dilation, groups, bias=dilation == 1, **WIDE)
    spec = Spec.of(kernel, 1, "same", dilation)
    full = oracle.dense_conv(grid_of(x), layer.weight, layer.bias, spec, groups)
    y = check(layer, x, full, oracle.sites_of(x.coords))
    assert y.coords is x.coords
    assert (y.stride, y.spatial_shape) == (x.stride, x.spatial_shape)
    torch.testing.assert_close(layer(grid_of(x)), full, **CLOSE)


REGULAR = [
    (k, s, p, 1)
    for k, s, p in product((1, 2, 3, 4, 5), (1, 2, 3), (0, 1, 2))
    if 2 * p <= k + 1 and (k, s, p) != (5, 1, 2)
]
REGULAR += [(3, 1, 2, 2), (2, 2, 1, 3), (3, 3, 0, 2), (3, 1, "valid", 1), ODD]
REGULAR += [((1, 3, 3), (1, 2, 2), (0, 1, 1), 1), ((4, 2, 1), (2, 1, 3), (1, 0, 0), (1, 3, 2))]


@pytest.mark.parametrize("geometry", REGULAR, ids=str)
@pytest.mark.parametrize("name", ["backwards", "full_cube"])
def test_regular(backend, name, geometry):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    kernel = geometry[0]
    spec = Spec.of(*geometry)
    groups = 2 if kernel == 3 else 1
    layer = nn.SparseConv3d(4, 6, *geometry, groups=groups, bias=kernel != 2, **WIDE)
    shape = spec.output_shape(x.spatial_shape)
    if min(shape) == 0:
        y = layer(x)
        assert len(y) == 0 and y.spatial_shape == shape
        return
    full = oracle.dense_conv(grid_of(x), layer.weight, layer.bias, spec, groups)
    out = oracle.conv_sites(oracle.sites_of(x.coords), spec, x.spatial_shape)
    y = check(layer, x, full, out)
    assert y.spatial_shape == shape == tuple(full.shape[2:])
    assert y.stride == spec.stride
    torch.testing.assert_close(layer(grid_of(x)), full, **CLOSE)
    if layer.bias is None:
        torch.testing.assert_close(y.dense(), full, **CLOSE)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_regular_with_padding_same(backend, kernel, dilation):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    layer = nn.SparseConv3d(4, 3, kernel, padding="same", dilation=dilation, **WIDE)
    spec = Spec.of(kernel, 1, "same", dilation)
    grid = grid_of(x)
    full = torch.nn.functional.conv3d(
        grid, layer.weight, layer.bias, padding="same", dilation=dilation
    )
    out = oracle.conv_sites(oracle.sites_of(x.coords), spec, x.spatial_shape)
    y = check(layer, x, full, out)
    assert y.spatial_shape == x.spatial_shape
    torch.testing.assert_close(layer(grid), full, **CLOSE)


UP = [(k, s, p, 1) for k, s, p in product((1, 2, 3, 4), (1, 2, 3), (0, 1)) if p < k]
UP += [(3, 2, 1, 2), (2, 3, 1, 3), ODD]


@pytest.mark.parametrize("geometry", UP, ids=str)
@pytest.mark.parametrize("extra", [0, 1], ids=["", "output_padding"])
@pytest.mark.parametrize("name", ["backwards", "empty_batch_item"])
def test_transposed(backend, name, geometry, extra):
    view = scene(name)
    x = view.tensor(4)
    x.features.requires_grad_()
    kernel, stride, padding, dilation = geometry
    spec = Spec.of(*geometry)
    extra = tuple(
        extra if extra < max(s, d) else 0 for s, d in zip(spec.stride, spec.dilation, strict=True)
    )
    groups = 2 if kernel == 3 else 1
    layer = nn.SparseConvTranspose3d(
        4, 6, kernel, stride, padding, extra, groups, kernel != 2, dilation, **WIDE
    )
    twin = dense.ConvTranspose3d(
        4, 6, kernel, stride, padding, extra, groups, kernel != 2, dilation, **WIDE
    )
    full = torch.nn.functional.conv_transpose3d(
        grid_of(x),
        layer.weight,
        layer.bias,
        spec.stride,
        spec.left,
        extra,
        groups,
        spec.dilation,
    )
    out = oracle.transposed_sites(oracle.sites_of(x.coords), spec, x.spatial_shape, extra)
    y = check(layer, x, full, out)
    assert y.spatial_shape == tuple(full.shape[2:])
    torch.testing.assert_close(layer(grid_of(x)), full, **CLOSE)
    twin.load_state_dict(layer.state_dict())
    torch.testing.assert_close(twin(grid_of(x)), full, **CLOSE)


@pytest.mark.parametrize("geometry", [(2, 2), (3, 2), (3, 1), (4, 3), ((1, 2, 3), (1, 2, 2))])
@pytest.mark.parametrize(("padding", "groups"), [(0, 1), (1, 2)])
def test_inverse(backend, geometry, padding, groups):
    kernel, stride = geometry
    x = scene("backwards").tensor(4)
    coarse = nn.SparseConv3d(4, 4, kernel, stride, padding, **WIDE)(x)
    y = coarse.replace(features=torch.randn(len(coarse), 4, **WIDE).requires_grad_())
    layer = nn.SparseInverseConv3d(4, 6, kernel, groups=groups, **WIDE)
    # without torch's padding, which crops the near side: room on the far side, then cropped
    full = torch.nn.functional.conv_transpose3d(
        grid_of(y), layer.weight, None, oracle.spread(stride), 0, 0, groups
    )
    crop = (slice(padding, padding + n) for n in x.spatial_shape)
    full = torch.nn.functional.pad(full, (0, 9) * 3)[(slice(None), slice(None), *crop)]
    full = full + layer.bias.reshape(-1, 1, 1, 1)
    back = check(layer, y, full, oracle.sites_of(x.coords))
    assert back.coords is x.coords
    assert (back.stride, back.spatial_shape) == (x.stride, x.spatial_shape)


@pytest.mark.parametrize(("kernel", "stride"), [(2, None), (3, None), (3, 2), ((1, 2, 2), None)])
def test_generative(backend, kernel, stride):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    layer = nn.SparseGenerativeConv3d(4, 3, kernel, stride, **WIDE)
    spec = Spec.of(kernel, kernel if stride is None else stride)
    full = torch.nn.functional.conv_transpose3d(grid_of(x), layer.weight, layer.bias, spec.stride)
    sites = oracle.sites_of(x.coords)
    y = check(layer, x, full, oracle.transposed_sites(sites, spec, x.spatial_shape))
    if stride is None:
        assert len(y) == len(x) * len(spec.taps)


def test_onto_given_sites(backend):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    target = scene("backwards").tensor(1)
    target = type(x)(target.coords, target.features, (8, 8, 8), 3)
    layer = nn.SparseConv3d(4, 5, 3, padding=1, **WIDE)
    spec = Spec.of(3, 1, 1)
    full = oracle.dense_conv(grid_of(x), layer.weight, layer.bias, spec)
    out = oracle.sites_of(target.coords)
    y = layer(x, target)
    assert y.shares_sites(target)
    torch.testing.assert_close(y.features, oracle.read(full, out), **CLOSE)
    # onto the sites of a level of its own topology, and transposed back onto the first
    coarse = nn.SparseConv3d(4, 5, 2, 2, **WIDE)(x)
    again = nn.SparseConv3d(4, 5, 3, 2, 1, **WIDE)
    y = again(x, sites=coarse)
    full = oracle.dense_conv(grid_of(x), again.weight, again.bias, Spec.of(3, 2, 1))
    torch.testing.assert_close(y.features, oracle.read(full, oracle.sites_of(y.coords)), **CLOSE)
    assert y.shares_sites(coarse)
    up = nn.SparseConvTranspose3d(5, 4, 3, 2, 1, 1, **WIDE)
    z = up(y, sites=x)
    assert z.shares_sites(x)
    full = torch.nn.functional.conv_transpose3d(grid_of(y), up.weight, up.bias, 2, 1, 1)
    torch.testing.assert_close(z.features, oracle.read(full, oracle.sites_of(x.coords)), **CLOSE)


def test_axes_are_not_exchanged(backend):
    # x, y, z of a site are torch's third, fourth and fifth axis
    x = scene("line").tensor(1)
    layer = nn.SparseConv3d(1, 1, (1, 1, 3), bias=False, **WIDE)
    y = layer(x)
    assert y.spatial_shape == (4, 3, 7) and len(y) == 7
    torch.testing.assert_close(y.dense(), layer(x.dense()), **CLOSE)


@pytest.mark.parametrize("name", ["negative", "far_away", "int32_limits"])
def test_unbounded_scenes_are_moved_grids(backend, name):
    view = scene(name)
    x = view.tensor(3)
    layer = nn.SubMConv3d(3, 4, 3, **WIDE)
    sites = oracle.sites_of(view.coords)
    pairs = oracle.triples(sites, sites, Spec.of(3, 1, 1))
    weight = oracle.weight_by_tap(layer.weight)
    y = oracle.convolve(x.features, weight, layer.bias, pairs, len(x))
    torch.testing.assert_close(layer(x).features, y, **CLOSE)
    down = nn.SparseConv3d(3, 4, 2, 2, **WIDE)
    spec = Spec.of(2, 2)
    out = oracle.conv_sites(sites, spec)
    z = down(x)
    assert oracle.sites_of(z.coords) == out
    pairs = oracle.triples(sites, out, spec)
    y = oracle.convolve(x.features, oracle.weight_by_tap(down.weight), down.bias, pairs, len(out))
    torch.testing.assert_close(z.features, y, **CLOSE)
