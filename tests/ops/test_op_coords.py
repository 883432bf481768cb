"""Site index, look-up, deduplication and output sites against Python sets."""

import pytest
import torch

from sparseconv.ops import coords as ops
from sparseconv.testing import oracle, scenes
from sparseconv.testing.oracle import Spec

GEOMETRIES = [
    (3, 1, 1, 1),
    (2, 2, 0, 1),
    (3, 2, 1, 1),
    (5, 3, 2, 1),
    (4, 1, 2, 1),
    (1, 2, 0, 1),
    ((1, 2, 3), (3, 1, 2), (0, 1, 1), (1, 2, 1)),
]


def offsets_of(spec):
    return [v for tap in spec.taps for v in spec.reads((0, 0, 0, 0), tap)[1:]]


def rows_of(coords, queries):
    row_of = {}
    for row, site in enumerate(oracle.sites_of(coords)):
        row_of.setdefault(site, row)
    return [row_of.get(site, -1) for site in oracle.sites_of(queries)]


@pytest.mark.parametrize("name", scenes.NAMES)
def test_lookup_finds_every_site_and_nothing_else(backend, name):
    coords = scenes.scene(name).coords
    limits = torch.iinfo(torch.int32)
    beside = [
        (coords.long() + torch.tensor(step)).clamp(limits.min, limits.max).int()
        for step in ([0, 0, 0, 1], [0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [-1, 0, 0, 0])
    ]
    corners = torch.tensor([[0, 0, 0, 0], [0, 0, 0, -1], [2**31 - 1] * 4, [-(2**31)] * 4]).int()
    queries = torch.cat([coords.flip(0), *beside, corners])
    rows = ops.lookup(coords, ops.site_index(coords), queries)
    assert rows.dtype == torch.int32
    assert rows.tolist() == rows_of(coords, queries)


def test_lookup_does_not_confuse_sites_whose_packed_keys_meet(backend):
    # x = 1, z = -1 and x = 0, z = 15 have one key on a grid of 16
    coords = torch.tensor([[0, 0, 0, 15], [0, 15, 15, 15], [1, 0, 0, 0]], dtype=torch.int32)
    queries = torch.tensor([[0, 1, 0, -1], [0, 0, 1, -1], [1, 0, 0, -1], [0, 16, 0, 0]]).int()
    assert ops.lookup(coords, ops.site_index(coords), queries).tolist() == [-1, -1, -1, -1]


@pytest.mark.parametrize("step", [1, 2**10, 2**16, 2**20, 3 * 2**15])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_lookup_of_regular_sites_that_a_poor_hash_piles_up(step, axis):
    count = min(20_000, (2**31 - 1) // step)
    coords = torch.zeros(count, 4, dtype=torch.int32)
    coords[:, axis] = torch.arange(count, dtype=torch.int32) * step
    table = ops.site_index(coords)
    assert torch.equal(ops.lookup(coords, table, coords), torch.arange(count).int())
    assert (ops.lookup(coords, table, coords + 1) == -1).all()


@pytest.mark.parametrize("name", ["empty", "random_sparse"])
def test_lookup_of_nothing_and_in_nothing(backend, name):
    coords = scenes.scene(name).coords
    none = torch.zeros(0, 4, dtype=torch.int32)
    assert ops.lookup(coords, ops.site_index(coords), none).shape == (0,)
    assert ops.lookup(none, ops.site_index(none), coords).tolist() == [-1] * len(coords)


@pytest.mark.parametrize("name", scenes.NAMES)
def test_unique_coords(backend, name):
    coords = scenes.scene(name).coords
    unique, inverse, counts, first = ops.unique_coords(coords)
    sites = oracle.sites_of(coords)
    expected = sorted(set(sites), key=oracle.z_place)
    assert oracle.sites_of(unique) == expected
    assert [expected[i] for i in inverse.tolist()] == sites
    assert counts.tolist() == [sites.count(site) for site in expected]
    assert first.tolist() == [sites.index(site) for site in expected]
    assert (unique.dtype, inverse.dtype) == (torch.int32, torch.int64)
    assert (counts.dtype, first.dtype) == (torch.int64, torch.int64)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("transposed", [False, True], ids=["down", "up"])
def test_output_coords(backend, geometry, transposed):
    spec = Spec.of(*geometry)
    for name in ("empty", "one_voxel", "negative", "random_sparse", "duplicates", "far_away"):
        view = scenes.scene(name)
        sites = oracle.sites_of(view.coords)
        expect = oracle.transposed_sites if transposed else oracle.conv_sites
        out = ops.output_coords(
            view.coords, offsets_of(spec), list(spec.stride), [], [], transposed
        )
        assert out.dtype == torch.int32 and out.shape[1] == 4
        assert oracle.sites_of(out) == expect(sites, spec), name
        if view.spatial_shape is None:
            continue
        bound = (spec.transposed_shape if transposed else spec.output_shape)(view.spatial_shape)
        out = ops.output_coords(
            view.coords, offsets_of(spec), list(spec.stride), [0, 0, 0], list(bound), transposed
        )
        assert oracle.sites_of(out) == expect(sites, spec, view.spatial_shape), name


def test_output_coords_with_one_bound_only(backend):
    coords = scenes.scene("negative").coords
    spec = Spec.of(3, 1, 1)
    every = oracle.conv_sites(oracle.sites_of(coords), spec)
    low = ops.output_coords(coords, offsets_of(spec), [1, 1, 1], [-2, -2, -2], [], False)
    assert oracle.sites_of(low) == [s for s in every if min(s[1:]) >= -2]
    high = ops.output_coords(coords, offsets_of(spec), [1, 1, 1], [], [0, 0, 0], False)
    assert oracle.sites_of(high) == [s for s in every if max(s[1:]) < 0]


def test_output_coords_of_no_taps(backend):
    coords = scenes.scene("random_sparse").coords
    assert ops.output_coords(coords, [], [1, 1, 1], [], [], False).shape == (0, 4)


def test_output_coords_at_the_limits_of_int32(backend):
    view = scenes.scene("int32_limits")
    sites = oracle.sites_of(view.coords)
    spec = Spec.of(2, 2)
    out = ops.output_coords(view.coords, offsets_of(spec), [2, 2, 2], [], [], False)
    assert oracle.sites_of(out) == oracle.conv_sites(sites, spec)
    # cropped away, what does not fit is not in the way
    spec = Spec.of(3, 1, 1)
    low, high = [-(2**31)] * 3, [2**31 - 1] * 3
    out = ops.output_coords(view.coords, offsets_of(spec), [1, 1, 1], low, high, False)
    kept = [
        s
        for s in oracle.conv_sites(sites, spec)
        if all(a <= v < b for v, a, b in zip(s[1:], low, high, strict=True))
    ]
    assert oracle.sites_of(out) == kept


@pytest.mark.parametrize("transposed", [False, True])
def test_output_coords_beyond_int32_are_refused(backend, transposed):
    coords = torch.tensor([[0, 0, 2**31 - 1, 0]], dtype=torch.int32)
    with pytest.raises(ValueError, match="int32"):
        ops.output_coords(coords, [0, -1, 0, 0, 1, 0], [1, 1, 1], [], [], transposed)


def test_rows_in_another_order_give_the_same_sites(backend):
    coords = scenes.scene("surface").coords
    spec = Spec.of(3, 2, 1)
    args = (offsets_of(spec), [2, 2, 2], [], [], False)
    torch.testing.assert_close(
        ops.output_coords(coords, *args), ops.output_coords(coords.flip(0).contiguous(), *args)
    )


def test_non_contiguous_coords(backend):
    coords = scenes.scene("random_sparse").coords
    wide = torch.cat([coords, coords], 1)[:, :4]
    assert not wide.is_contiguous()
    column = coords.T.contiguous().T
    assert not column.is_contiguous()
    for view in (wide, column):
        rows = ops.lookup(view, ops.site_index(view), view)
        assert rows.tolist() == list(range(len(coords)))
        assert torch.equal(ops.unique_coords(view)[0], ops.unique_coords(coords)[0])
