"""Points to voxels and back: against plain Python, scipy, and the rules for odd points."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import sparseconv as sc
from sparseconv.functional.interpolate import interpolate
from sparseconv.io.point_cloud import PointCloud
from sparseconv.testing import oracle

POINTS = np.random.default_rng(5).uniform(-1, 1, (400, 3))
VOXEL = 0.3


def by_voxel(points, size):
    """Rows of each voxel, in plain Python."""
    rows = {}
    for row, point in enumerate(points):
        rows.setdefault(tuple(math.floor(v / size) for v in point), []).append(row)
    return rows


@pytest.mark.parametrize(
    ("reduce", "pick"),
    [
        ("mean", lambda v: v.mean(0)),
        ("sum", lambda v: v.sum(0)),
        ("max", lambda v: v.max(0)),
        ("first", lambda v: v[0]),
        ("last", lambda v: v[-1]),
    ],
)
def test_reductions_equal_plain_python(reduce, pick):
    values = np.random.default_rng(6).normal(size=(400, 3))
    x, to_voxel = sc.voxelize(POINTS, VOXEL, features=values, reduce=reduce)
    expected = by_voxel(POINTS, VOXEL)
    ordered = sorted(expected, key=lambda site: oracle.z_place((0, *site)))
    assert [tuple(site[1:]) for site in x.coords.tolist()] == ordered
    for row, site in enumerate(ordered):
        assert to_voxel[expected[site]].unique().tolist() == [row]
        np.testing.assert_allclose(x.features[row], pick(values[expected[site]]), rtol=1e-12)


def test_neighbours_equal_a_tree_search():
    x, _ = sc.voxelize(POINTS, VOXEL)
    book = x.topology.rulebook(x.level, x.level, sc.nn.SubMConv3d(1, 1, 3).geometry)
    tree = cKDTree(x.coords[:, 1:].numpy())
    counts = [len(found) for found in tree.query_ball_point(tree.data, 1.5, p=np.inf)]
    assert torch.bincount(book.out_rows, minlength=len(x)).tolist() == counts


def test_points_that_are_no_numbers_are_dropped():
    points = POINTS.copy()
    points[[3, 50], [0, 2]] = np.nan, np.inf
    x, to_voxel = sc.voxelize(points, VOXEL)
    assert torch.nonzero(to_voxel == -1).flatten().tolist() == [3, 50]
    kept = np.isfinite(points).all(1)
    other, _ = sc.voxelize(points[kept], VOXEL)
    assert sc.compare(x, other).equal


def test_a_batch_keeps_empty_scans():
    x, to_voxel = sc.voxelize([POINTS[:10], np.zeros((0, 3)), POINTS[10:30]], VOXEL)
    assert x.batch_size == 3
    assert sorted(x.coords[:, 0].unique().tolist()) == [0, 2]
    assert (x.coords[to_voxel[10:], 0] == 2).all()


def test_map_coordinates_stay_exact():
    # 1 cm steps at UTM size, where float32 has steps of 6 cm
    base = np.array([636_000.0, 849_000.0, 400.0])
    points = base + np.arange(5)[:, None] * np.array([0.01, 0, 0]) + 0.005
    x, to_voxel = sc.voxelize(points, 0.01)
    assert len(x) == 5
    assert to_voxel.tolist() == [0, 1, 2, 3, 4]
    moved, _ = sc.voxelize(points, 0.01, origin=base)
    assert moved.coords[:, 1:].tolist() == [[i, 0, 0] for i in range(5)]


def test_named_features():
    cloud = PointCloud(
        POINTS[:2], {"rgb": np.array([[0, 255, 51]] * 2, np.uint8), "heat": np.array([1, 2])}
    )
    x, to_voxel = sc.voxelize(cloud, 10.0, features=["one", "rgb", "heat"], reduce="first")
    assert x.features[to_voxel[0]].tolist() == pytest.approx([1, 0, 1, 0.2, 1])
    usual, _ = sc.voxelize(cloud, 10.0)
    assert usual.channels == 4


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: sc.voxelize(POINTS, 0), ValueError, "voxel_size: expected metres above 0"),
        (lambda: sc.voxelize(POINTS, float("nan")), ValueError, "voxel_size"),
        (lambda: sc.voxelize(POINTS, 1, reduce="median"), ValueError, "reduce: expected one of"),
        (lambda: sc.voxelize(POINTS, 1, features=["hue"]), ValueError, "found 'hue'"),
        (lambda: sc.voxelize(POINTS, 1, features=np.ones((3, 1))), ValueError, r"\[400, C\]"),
        (lambda: sc.voxelize(POINTS * 1e9, 0.01), ValueError, "origin=cloud.xyz.min"),
        (lambda: sc.voxelize("scan.ply", 1), TypeError, "clouds: expected a PointCloud"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_interpolation_equals_scipy():
    from scipy.ndimage import map_coordinates

    rng = np.random.default_rng(7)
    grid = np.where(rng.random((5, 4, 6)) < 0.5, rng.normal(size=(5, 4, 6)), 0)
    x = sc.from_dense(torch.from_numpy(grid)[None, None])
    places = rng.uniform(-0.9, 5.5, (200, 3))
    found = interpolate(x, torch.from_numpy(np.c_[np.zeros(200), places]))
    expected = map_coordinates(
        np.pad(grid, 2), places.T + 2, order=1, mode="constant", prefilter=False
    )
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-12)
