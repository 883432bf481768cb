"""The yardstick itself, tested against torch's dense convolutions alone."""

import ast
import inspect
from itertools import product

import pytest
import torch
from torch.nn import functional as dense

from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec

CASES = [
    # kernel, stride, padding, dilation
    (1, 1, 0, 1),
    (3, 1, 1, 1),
    (2, 2, 0, 1),
    (3, 2, 1, 1),
    (4, 1, 2, 1),
    (5, 3, 2, 1),
    (2, 1, 1, 3),
    (3, 1, 2, 2),
    ((1, 2, 3), (1, 2, 1), (0, 1, 2), (1, 1, 2)),
    ((3, 1, 2), (3, 1, 2), (1, 0, 0), (2, 3, 1)),
    ((1, 1, 1), (2, 3, 1), 0, 1),
]
SHAPE = (6, 5, 7)


def all_sites(batch, shape):
    return list(product(range(batch), *(range(n) for n in shape)))


def some_sites(batch, shape, share, seed=0):
    rng = torch.Generator().manual_seed(seed)
    sites = all_sites(batch, shape)
    order = torch.randperm(len(sites), generator=rng)[: int(share * len(sites))]
    return [sites[i] for i in order]


def torch_conv(grid, weight, bias, spec, groups):
    return dense.conv3d(grid, weight, bias, spec.stride, spec.left, spec.dilation, groups)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("share", [0.05, 0.4, 1.0])
def test_plain_loop_is_conv3d(case, share):
    spec = Spec.of(*case)
    groups = 2 if case[0] == 3 else 1
    sites = some_sites(2, SHAPE, share)
    x = torch.randn(len(sites), 4, dtype=torch.float64)
    weight = torch.randn(6, 4 // groups, *spec.kernel, dtype=torch.float64)
    bias = torch.randn(6, dtype=torch.float64)
    full = torch_conv(oracle.densify(sites, x, SHAPE, 2), weight, bias, spec, groups)
    assert tuple(full.shape[2:]) == spec.output_shape(SHAPE)
    out = oracle.conv_sites(sites, spec, SHAPE)
    pairs = oracle.triples(sites, out, spec)
    y = oracle.convolve(x, oracle.weight_by_tap(weight), bias, pairs, len(out), groups)
    torch.testing.assert_close(y, oracle.read(full, out), rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_output_sites_are_where_a_positive_convolution_is_positive(case):
    spec = Spec.of(*case)
    sites = some_sites(2, SHAPE, 0.03)
    ones = torch.ones(len(sites), 1)
    weight = torch.ones(1, 1, *spec.kernel)
    full = torch_conv(oracle.densify(sites, ones, SHAPE, 2), weight, None, spec, 1)
    found = oracle.conv_sites(sites, spec, SHAPE)
    assert sorted(found) == [tuple(s) for s in torch.nonzero(full[:, 0] > 0).tolist()]
    assert found == sorted(found, key=oracle.z_place)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_unbounded_output_sites_are_those_of_a_box_searched_whole(case):
    spec = Spec.of(*case)
    sites = [(0, -2, 0, 1), (1, 1, -1, 0)]
    active = set(sites)
    box = product(range(2), *(range(-7, 8) for _ in range(3)))
    brute = sorted(o for o in box if any(spec.reads(o, tap) in active for tap in spec.taps))
    assert sorted(oracle.conv_sites(sites, spec)) == brute


def test_z_order_walks_cube_by_cube():
    def walk(low, size):
        if size == 1:
            return [(0, *low)]
        half = size // 2
        corners = product((0, half), repeat=3)
        return [s for c in corners for s in walk(tuple(map(sum, zip(low, c, strict=True))), half)]

    # the lattice begins at -2^31: zero is a corner of the largest cubes
    ordered = [s for low in product((-8, 0), repeat=3) for s in walk(low, 8)]
    ordered += [(1, *s[1:]) for s in ordered]
    assert sorted(sorted(ordered), key=oracle.z_place) == ordered


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_plain_loop_is_conv_transpose3d(case, extra, share):
    spec = Spec.of(*case)
    op = tuple(
        extra if max(s, d) > extra else 0 for s, d in zip(spec.stride, spec.dilation, strict=True)
    )
    shape = (3, 4, 2)
    sites = some_sites(2, shape, share)
    x = torch.randn(len(sites), 4, dtype=torch.float64)
    weight = torch.randn(4, 3, *spec.kernel, dtype=torch.float64)
    bias = torch.randn(3, dtype=torch.float64)
    extent = spec.transposed_shape(shape, op)
    if min(extent) == 0:
        assert oracle.transposed_sites(sites, spec, shape, op) == []
        return
    full = dense.conv_transpose3d(
        oracle.densify(sites, x, shape, 2),
        weight,
        bias,
        spec.stride,
        spec.left,
        op,
        1,
        spec.dilation,
    )
    assert tuple(full.shape[2:]) == extent
    out = oracle.transposed_sites(sites, spec, shape, op)
    pairs = oracle.transposed_triples(sites, out, spec)
    by_tap = oracle.weight_by_tap(weight.transpose(0, 1))
    y = oracle.convolve(x, by_tap, bias, pairs, len(out))
    torch.testing.assert_close(y, oracle.read(full, out), rtol=0, atol=1e-12)
    elsewhere = set(all_sites(2, extent)) - set(out)
    quiet = oracle.read(full, sorted(elsewhere)) - bias
    assert quiet.numel() == 0 or quiet.abs().max() < 1e-12


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, (1, 2, 4)])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_same_is_same(kernel, dilation):
    spec = Spec.of(kernel, 1, "same", dilation)
    sites = some_sites(1, SHAPE, 0.5)
    x = torch.randn(len(sites), 2, dtype=torch.float64)
    weight = torch.randn(3, 2, *spec.kernel, dtype=torch.float64)
    grid = oracle.densify(sites, x, SHAPE, 1)
    full = dense.conv3d(grid, weight, None, 1, "same", spec.dilation)
    torch.testing.assert_close(oracle.dense_conv(grid, weight, None, spec), full)
    pairs = oracle.triples(sites, sites, spec)
    y = oracle.convolve(x, oracle.weight_by_tap(weight), None, pairs, len(sites))
    torch.testing.assert_close(y, oracle.read(full, sites), rtol=0, atol=1e-12)


def test_pools_are_torchs_on_a_full_grid():
    sites = all_sites(2, (4, 4, 4))
    x = torch.randn(len(sites), 3, dtype=torch.float64)
    grid = oracle.densify(sites, x, (4, 4, 4), 2)
    spec = Spec.of(2, 2)
    out = oracle.conv_sites(sites, spec, (4, 4, 4))
    pairs = oracle.triples(sites, out, spec)
    for how, full in (
        ("max", dense.max_pool3d(grid, 2)),
        ("mean", dense.avg_pool3d(grid, 2)),
        ("sum", 8 * dense.avg_pool3d(grid, 2)),
    ):
        torch.testing.assert_close(oracle.pool(x, pairs, len(out), how), oracle.read(full, out))


def test_interpolation_is_grid_sample():
    shape = (4, 5, 6)
    sites = some_sites(1, shape, 0.5)
    x = torch.randn(len(sites), 2, dtype=torch.float64)
    points = torch.rand(20, 3, dtype=torch.float64) * torch.tensor([5.0, 6.0, 7.0]) - 1
    grid = oracle.densify(sites, x, shape, 1)
    place = 2 * points / (torch.tensor(shape) - 1) - 1
    # grid_sample wants z first: it calls the last grid axis x
    full = dense.grid_sample(grid, place.flip(1)[None, None, None], align_corners=True)
    rows = [[0, *p] for p in points.tolist()]
    torch.testing.assert_close(oracle.interpolate(sites, x, rows), full[0, :, 0, 0].T)
    ones = oracle.interpolate(sites, torch.ones(len(sites), 1), rows, normalize=True)
    assert set(ones.round(decimals=12).flatten().tolist()) <= {0.0, 1.0}


def test_pairs_by_tap_are_sorted_and_counted():
    in_rows, out_rows, segments = oracle.by_tap({(5, 1, 2), (4, 0, 2), (3, 3, 0)}, 3)
    assert (in_rows.tolist(), out_rows.tolist()) == ([3, 4, 5], [3, 0, 1])
    assert segments.tolist() == [0, 1, 1, 3]


def test_a_grid_too_large_is_refused_before_it_is_made():
    with pytest.raises(MemoryError, match="at most"):
        oracle.densify([(0, 0, 0, 0)], torch.zeros(1, 1), (10_000, 10_000, 10_000), 1)
    with pytest.raises(IndexError, match="on the grid"):
        oracle.densify([(0, -1, 0, 0)], torch.zeros(1, 1), (2, 2, 2), 1)


def test_the_oracle_knows_nothing_of_the_library():
    tree = ast.parse(inspect.getsource(oracle))
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(node.module.split(".")[0])
    assert "sparseconv" not in roots
