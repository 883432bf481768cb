"""Convolutions of drawn sites with drawn geometry, against the integer oracle."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparseconv.functional.conv import conv3d, conv_transpose3d, inverse_conv3d, submanifold_conv3d
from sparseconv.functional.pool import avg_pool3d, max_pool3d, sum_pool3d
from sparseconv.geometry import Geometry
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.tolerances import tolerance

CLOSE = tolerance(torch.float64, "formula")
SHAPE = (5, 6, 4)


def triple(low, high):
    return st.tuples(*[st.integers(low, high)] * 3)


@st.composite
def problems(draw):
    """A sparse tensor of up to 40 sites and the arguments of a geometry."""
    bounded = draw(st.booleans())
    low = (0, 0, 0) if bounded else (-6, -6, -6)
    axes = (st.integers(a, n - 1) for a, n in zip(low, SHAPE, strict=True))
    site = st.tuples(st.integers(0, 1), *axes)
    sites = draw(st.lists(site, max_size=40, unique=True))
    shift = [0, 0, 0, 0] if bounded else [0, *draw(triple(-(2**30), 2**30))]
    coords = (torch.tensor(sites, dtype=torch.int64).reshape(-1, 4) + torch.tensor(shift)).int()
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    features = torch.randn(len(sites), 3, generator=rng, dtype=torch.float64)
    x = SparseTensor(coords, features, SHAPE if bounded else None, 2)
    geometry = (draw(triple(1, 4)), draw(triple(1, 3)), draw(triple(0, 3)), draw(triple(1, 3)))
    return x, geometry, torch.randn(2, 3, *geometry[0], generator=rng, dtype=torch.float64)


def loop(x, pairs, weight, num_out):
    return oracle.convolve(x.features, oracle.weight_by_tap(weight), None, pairs, num_out)


@settings(max_examples=60)
@given(problems())
def test_convolution_and_the_way_back(problem):
    x, geometry, weight = problem
    spec, ours = Spec.of(*geometry), Geometry.make(*geometry)
    sites = oracle.sites_of(x.coords)
    out = oracle.conv_sites(sites, spec, x.spatial_shape)
    y = conv3d(x, weight, None, ours)
    assert oracle.sites_of(y.coords) == out
    pairs = oracle.triples(sites, out, spec)
    torch.testing.assert_close(y.features, loop(x, pairs, weight, len(out)), **CLOSE)
    for name, pool in (("max", max_pool3d), ("sum", sum_pool3d), ("mean", avg_pool3d)):
        torch.testing.assert_close(
            pool(x, ours).features, oracle.pool(x.features, pairs, len(out), name), **CLOSE
        )
    back = inverse_conv3d(y, weight, None)
    swapped = {(o, i, t) for i, o, t in pairs}
    expected = loop(y, swapped, weight.transpose(0, 1), len(sites))
    assert back.shares_sites(x)
    torch.testing.assert_close(back.features, expected, **CLOSE)


@settings(max_examples=40)
@given(problems())
def test_transposed_convolution(problem):
    x, geometry, weight = problem
    # strides multiply coordinates: bring far scenes near enough
    coords = torch.cat([x.coords[:, :1], x.coords[:, 1:] % 7], 1)
    if x.spatial_shape is None and len(torch.unique(coords, dim=0)) == len(coords):
        x = SparseTensor(coords, x.features, None, 2)
    elif x.spatial_shape is None:
        return
    spec = Spec.of(*geometry)
    sites = oracle.sites_of(x.coords)
    out = oracle.transposed_sites(sites, spec, x.spatial_shape)
    y = conv_transpose3d(x, weight.transpose(0, 1), None, Geometry.make(*geometry))
    assert oracle.sites_of(y.coords) == out
    pairs = oracle.transposed_triples(sites, out, spec)
    torch.testing.assert_close(y.features, loop(x, pairs, weight, len(out)), **CLOSE)


@settings(max_examples=40)
@given(problems())
def test_submanifold_convolution(problem):
    x, (kernel, _, _, dilation), weight = problem
    spec = Spec.of(kernel, 1, "same", dilation)
    sites = oracle.sites_of(x.coords)
    y = submanifold_conv3d(x, weight, None, Geometry.submanifold(kernel, dilation))
    pairs = oracle.triples(sites, sites, spec)
    torch.testing.assert_close(y.features, loop(x, pairs, weight, len(sites)), **CLOSE)
