"""Random changes keep labels with their points."""

import numpy as np
import pytest

from sparseconv.io.point_cloud import PointCloud
from sparseconv.tasks.augment import DropBeams, Piece, Reach, augmenter
from sparseconv.tasks.recipe import Augmentation


@pytest.fixture
def cloud():
    xyz = np.random.default_rng(0).uniform(-20, 20, (5000, 3))
    xyz[:, 2] *= 0.05
    return PointCloud(xyz, {"label": (xyz[:, 2] > 0).astype(np.int32)})


def test_the_same_generator_gives_the_same_scene(cloud):
    change = augmenter(Augmentation(beams=0.5))
    first, second = (change(cloud, np.random.default_rng(4)) for _ in range(2))
    other = change(cloud, np.random.default_rng(5))
    assert np.array_equal(first.xyz, second.xyz)
    assert not np.array_equal(first.xyz[: len(other)], other.xyz[: len(first)])


def test_labels_stay_with_their_points(cloud):
    gentle = Augmentation(tilt=0.001, jitter=0.0, crop=1.0, box=(10.0, 20.0))
    changed = augmenter(gentle)(cloud, np.random.default_rng(1))
    assert 0 < len(changed) < len(cloud)
    sure = np.abs(changed.xyz[:, 2]) > 0.05
    assert ((changed.xyz[:, 2] > 0) == changed.attributes["label"].astype(bool))[sure].all()


def test_reach_keeps_the_near_points(cloud):
    near = Reach(10.0)(cloud)
    assert 0 < len(near) < len(cloud)
    assert np.hypot(near.xyz[:, 0], near.xyz[:, 1]).max() < 10


def test_half_of_the_beams_of_a_lidar_stay():
    elevation = np.radians(np.arange(-24, 0, 0.4))
    ring = np.linspace(0, 2 * np.pi, 100)
    e, a = np.meshgrid(elevation, ring)
    xyz = 20 * np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], -1)
    kept = DropBeams(0.4, 0.4)(PointCloud(xyz.reshape(-1, 3)), np.random.default_rng(0))
    assert len(kept) == pytest.approx(3000, rel=0.1)
    assert len(np.unique(np.round(kept.xyz[:, 2], 6))) == pytest.approx(30, abs=3)


def test_a_piece_with_hardly_any_points_is_not_cut(cloud):
    assert Piece(0.01, 0.02)(cloud, np.random.default_rng(0)) is cloud
    piece = Piece(15.0, 18.0)(cloud, np.random.default_rng(0))
    assert 500 <= len(piece) < len(cloud)
