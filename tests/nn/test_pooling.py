"""Pooling counts active sites alone."""

import pytest
import torch

from sparseconv import nn
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene

GEOMETRIES = [(2, None, 0, 1), (3, 2, 1, 1), (3, 1, 1, 1), (2, 3, 0, 1), (2, 2, 0, 2)]
GEOMETRIES += [((1, 2, 3), (2, 1, 2), (0, 1, 1), 1)]
LAYERS = {
    "max": nn.MaxPool3d,
    "sum": nn.SumPool3d,
    "mean": nn.AvgPool3d,
}


@pytest.mark.parametrize("how", LAYERS)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_pools(backend, geometry, how):
    kernel, stride, *rest = geometry
    spec = Spec.of(kernel, kernel if stride is None else stride, *rest)
    for name in ("random_sparse", "full_cube", "empty_batch_item", "empty", "negative"):
        view = scene(name)
        x = view.tensor(3)
        sites = oracle.sites_of(view.coords)
        out = oracle.conv_sites(sites, spec, view.spatial_shape)
        y = LAYERS[how](*geometry)(x)
        assert oracle.sites_of(y.coords) == out
        pairs = oracle.triples(sites, out, spec)
        expected = oracle.pool(x.features, pairs, len(out), how)
        torch.testing.assert_close(y.features, expected)
        if view.spatial_shape is not None:
            assert y.spatial_shape == spec.output_shape(view.spatial_shape)


def test_windows_of_negative_numbers_give_the_greatest_of_them(backend):
    x = scene("random_sparse").tensor(2)
    x = x.replace(features=-1 - x.features.abs())
    y = nn.MaxPool3d(2)(x)
    assert (y.features <= -1).all() and len(y)
    assert (nn.GlobalMaxPool()(x) <= -1).all()


def test_average_over_present_sites_or_over_the_kernel(backend):
    x = scene("random_sparse").tensor(2)
    ones = x.replace(features=torch.ones_like(x.features))
    assert (nn.AvgPool3d(2)(ones).features == 1).all()
    full = torch.nn.functional.avg_pool3d(x.dense(), 2)
    y = nn.AvgPool3d(2, count="kernel")(x)
    at_sites = oracle.read(full, oracle.sites_of(y.coords))
    torch.testing.assert_close(y.features, at_sites)
    with pytest.raises(ValueError, match="count: expected 'present' or 'kernel'"):
        nn.AvgPool3d(2, count="all")(x)


def test_unpool_copies_to_the_sites_before(backend):
    x = scene("random_sparse").tensor(2)
    y = nn.MaxPool3d(2)(x)
    z = nn.Unpool()(y)
    assert z.coords is x.coords
    parent = torch.cat([x.coords[:, :1], torch.div(x.coords[:, 1:], 2, rounding_mode="floor")], 1)
    torch.testing.assert_close(z.features, y.features[y.lookup(parent)], rtol=0, atol=0)
    with pytest.raises(ValueError, match="strided convolution or pooling"):
        nn.Unpool()(x)


def test_unpool_of_overlapping_windows_sums_them(backend):
    x = scene("line").tensor(1)
    y = nn.SumPool3d((1, 1, 3), 1, (0, 0, 1))(x)
    ones = y.replace(features=torch.ones_like(y.features))
    assert nn.Unpool()(ones).features.flatten().tolist() == [2.0] + [3.0] * 7 + [2.0]


def test_unpool_undoes_the_layer_that_made_the_sites(backend):
    x = scene("random_sparse").tensor(2)
    middle = nn.MaxPool3d(2)(x)
    coarse = nn.SubMConv3d(2, 2, 3, dtype=torch.float64)(nn.AvgPool3d(3, 2, 1)(middle))
    once = nn.Unpool()(coarse)
    assert once.shares_sites(middle)
    assert nn.Unpool()(once).shares_sites(x)


@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "empty_last_item", "empty"])
def test_global_pools(backend, name):
    x = scene(name).tensor(3)
    parts = [x.features[x.coords[:, 0] == b] for b in range(x.batch_size)]
    zero = torch.zeros(3, dtype=torch.float64)
    for layer, reduce in (
        (nn.GlobalSumPool(), lambda f: f.sum(0)),
        (nn.GlobalAvgPool(), lambda f: f.mean(0)),
        (nn.GlobalMaxPool(), lambda f: f.amax(0)),
    ):
        y = layer(x)
        assert y.shape == (x.batch_size, 3)
        expected = torch.stack([reduce(f) if len(f) else zero for f in parts])
        torch.testing.assert_close(y, expected)


@pytest.mark.parametrize(
    "layer",
    [nn.MaxPool3d(2), nn.AvgPool3d(3, 2, 1), nn.SumPool3d(2), nn.GlobalAvgPool()],
    ids=lambda layer: type(layer).__name__,
)
def test_derivatives(backend, layer):
    view = scene("one_voxel" if isinstance(layer, nn.GlobalAvgPool) else "empty_batch_item")
    x = view.tensor(2)

    def run(features):
        y = layer(x.replace(features=features))
        return y.features if isinstance(y, SparseTensor) else y

    start = torch.arange(x.features.numel(), dtype=torch.float64).reshape(x.features.shape)
    start = (start * 7 % 5).requires_grad_()
    assert torch.autograd.gradcheck(run, start)
    assert torch.autograd.gradgradcheck(run, start)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_pools_keep_half_dtypes(backend, dtype):
    x = scene("random_sparse").tensor(3, dtype)
    for layer in (nn.MaxPool3d(2), nn.AvgPool3d(2), nn.SumPool3d(2), nn.GlobalAvgPool()):
        y = layer(x)
        assert y.dtype == dtype
    best = nn.MaxPool3d(2)(x).features
    wide = nn.MaxPool3d(2)(x.to(torch.float64)).features
    assert torch.equal(best.double(), wide)


def test_an_empty_scan_sends_no_gradient_to_others(backend):
    x = scene("empty_batch_item").tensor(2)
    x.features.requires_grad_()
    pooled = nn.GlobalMaxPool()(x)
    pooled[1].sum().backward()
    assert not x.features.grad.any()
