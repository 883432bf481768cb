"""The rulebook against the set of (input, output, tap) triples of the formula."""

from itertools import pairwise

import pytest
import torch

import sparseconv as sc
from sparseconv.ops.coords import site_index
from sparseconv.ops.rulebook import rulebook
from sparseconv.testing import oracle, scenes
from sparseconv.testing.oracle import Spec

SAME = [(3, 1), (5, 1), (2, 1), (4, 1), (3, 2), (2, 3), (1, 1), ((1, 2, 3), (1, 1, 2))]
ACROSS = [(2, 2, 0, 1), (3, 2, 1, 1), (4, 2, 1, 1), (5, 3, 2, 1), (1, 2, 0, 1)]
ACROSS += [((3, 1, 2), (1, 2, 3), (2, 0, 1), (2, 1, 1))]


def offsets_of(spec):
    return [v for tap in spec.taps for v in spec.reads((0, 0, 0, 0), tap)[1:]]


def found(in_coords, out_coords, spec, same_sites):
    in_rows, out_rows, segments = rulebook(
        in_coords,
        site_index(in_coords),
        out_coords,
        offsets_of(spec),
        list(spec.stride),
        same_sites,
    )
    assert (in_rows.dtype, out_rows.dtype, segments.dtype) == (
        torch.int32,
        torch.int32,
        torch.int64,
    )
    bounds = segments.tolist()
    assert bounds[0] == 0 and bounds[-1] == len(in_rows) == len(out_rows)
    triples = set()
    for tap, (start, stop) in enumerate(pairwise(bounds)):
        rows = out_rows[start:stop].tolist()
        assert rows == sorted(set(rows)), "pairs of a tap are sorted by output row"
        triples |= {(i, o, tap) for i, o in zip(in_rows[start:stop].tolist(), rows, strict=True)}
    assert len(triples) == len(in_rows)
    return triples


@pytest.mark.parametrize("same_sites", [True, False], ids=["same", "any"])
def test_submanifold(backend, scene, same_sites):
    if scene.name == "surface":
        pytest.skip("too many sites for a set of triples of every geometry; see test_surface")
    sites = oracle.sites_of(scene.coords)
    for kernel, dilation in SAME:
        spec = Spec.of(kernel, 1, "same", dilation)
        assert found(scene.coords, scene.coords, spec, same_sites) == oracle.triples(
            sites, sites, spec
        ), (kernel, dilation)


def test_surface(backend):
    coords = scenes.scene("surface").coords
    sites = oracle.sites_of(coords)
    spec = Spec.of(3, 1, 1)
    assert found(coords, coords, spec, True) == oracle.triples(sites, sites, spec)


def test_same_sites_with_offsets_that_are_not_symmetric(backend):
    view = scenes.scene("random_sparse")
    sites = oracle.sites_of(view.coords)
    for padding in (0, (1, 0, 2)):
        spec = Spec.of(3, 1, padding)
        assert found(view.coords, view.coords, spec, True) == oracle.triples(sites, sites, spec)


@pytest.mark.parametrize("geometry", ACROSS, ids=str)
def test_across_levels(backend, geometry):
    spec = Spec.of(*geometry)
    for name in ("empty", "one_voxel", "negative", "random_sparse", "same_xyz", "int32_limits"):
        coords = scenes.scene(name).coords
        sites = oracle.sites_of(coords)
        out = [s for s in oracle.conv_sites(sites, spec) if all(-(2**31) <= v < 2**31 for v in s)]
        out_coords = torch.tensor(out, dtype=torch.int32).reshape(-1, 4)
        assert found(coords, out_coords, spec, False) == oracle.triples(sites, out, spec), name


def test_onto_sites_that_no_tap_reaches_and_repeated_ones(backend):
    coords = scenes.scene("random_sparse").coords
    others = torch.cat([coords[:5], coords[:5] + 100, coords[:2]])
    spec = Spec.of(3, 1, 1)
    sites, out = oracle.sites_of(coords), oracle.sites_of(others)
    assert found(coords, others, spec, False) == oracle.triples(sites, out, spec)


def test_arbitrary_offsets(backend):
    coords = scenes.scene("random_sparse").coords
    offsets = [0, 0, 0, 7, -3, 2, 0, 0, 0, 1, 0, 0, -1, 0, 0]
    in_rows, out_rows, segments = rulebook(
        coords, site_index(coords), coords, offsets, [1, 1, 1], True
    )
    sites = {site: row for row, site in enumerate(oracle.sites_of(coords))}
    for tap, (start, stop) in enumerate(pairwise(segments.tolist())):
        step = offsets[3 * tap : 3 * tap + 3]
        expected = [
            (sites[q], o)
            for (b, *p), o in sites.items()
            if (q := (b, *(v + s for v, s in zip(p, step, strict=True)))) in sites
        ]
        pairs = list(zip(in_rows[start:stop].tolist(), out_rows[start:stop].tolist(), strict=True))
        assert pairs == sorted(expected, key=lambda pair: pair[1])


def test_unordered_outputs_outside_the_box_of_the_queries(backend):
    # no tap reads an output's own place, which lies beyond everything that is read
    in_coords = torch.tensor([[0, 1, 1, 0], [1, 0, 2, 0]], dtype=torch.int32)
    out_coords = torch.tensor([[1, 1, 2, 0], [0, 0, 0, 0]], dtype=torch.int32)
    found = rulebook(
        in_coords, site_index(in_coords), out_coords, [1, 1, 0, 0, 1, 0], [1, 1, 1], False
    )
    assert [part.tolist() for part in found] == [[0], [1], [0, 1, 1]]


@pytest.mark.parametrize("seed", range(40))
def test_random_sites_and_offsets_agree_with_the_reference(seed):
    rng = torch.Generator().manual_seed(seed)

    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=rng)

    def sites(count, reach):
        rows = torch.cat([draw(0, 2, count, 1), draw(-reach, reach, count, 3)], 1)
        rows = torch.unique(rows, dim=0)
        return rows[torch.randperm(len(rows), generator=rng)].int()

    for count in (2, 5, 60):
        into, out = sites(count, 3), sites(count, 4)
        # the taps together lie away from the output's own place
        offsets = (draw(-2, 3, int(draw(1, 9, 1)), 3) + draw(-4, 5, 3)).flatten().tolist()
        stride = draw(1, 4, 3).tolist()
        args = (into, site_index(into), out, offsets, stride, False)
        found = rulebook(*args)
        with sc.use_backend("reference"):
            expected = rulebook(*args)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)


def test_no_taps_and_no_outputs(backend):
    coords = scenes.scene("random_sparse").coords
    none = torch.zeros(0, 4, dtype=torch.int32)
    in_rows, _, segments = rulebook(coords, site_index(coords), coords, [], [1, 1, 1], False)
    assert len(in_rows) == 0 and segments.tolist() == [0]
    in_rows, _, segments = rulebook(
        coords, site_index(coords), none, [0, 0, 0, 1, 0, 0], [1, 1, 1], False
    )
    assert len(in_rows) == 0 and segments.tolist() == [0, 0, 0]
    assert rulebook(none, site_index(none), coords, [0, 0, 0], [1] * 3, False)[0].shape == (0,)
