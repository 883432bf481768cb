"""Every point gets a class, in order."""

import numpy as np
import pytest
import torch

from sparseconv.datasets.procedural.room import generate_room
from sparseconv.io.point_cloud import PointCloud
from sparseconv.tasks import recipe as recipes
from sparseconv.tasks.checkpoint import make_network, save_checkpoint
from sparseconv.tasks.segment import segment


@pytest.fixture(scope="module")
def room():
    cloud = generate_room(2_000_001)
    return PointCloud(cloud.xyz[::4])


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """Return checkpoints of random weights: nothing here depends on training."""
    folder = tmp_path_factory.mktemp("nets")
    torch.manual_seed(3)
    for recipe in (recipes.rooms(), recipes.streets()):
        save_checkpoint(folder / f"{recipe.name}.pt", make_network(recipe), recipe)
    return folder


@pytest.mark.parametrize("name", ["rooms", "streets"])
def test_every_point_is_labelled_and_nan_points_say_so(room, untrained, name):
    xyz = room.xyz.copy()
    xyz[10], xyz[500, 1], xyz[-1, 2] = np.nan, np.inf, -np.inf
    broken = ~np.isfinite(xyz).all(1)
    found = segment(PointCloud(xyz), untrained / f"{name}.pt")
    assert found.label.shape == found.confidence.shape == (len(xyz),)
    assert found.label.dtype == np.int32 and found.confidence.dtype == np.float32
    assert (found.label[broken] == -1).all() and (found.confidence[broken] == 0).all()
    fine = found.label[~broken]
    assert fine.min() >= 0 and fine.max() < len(found.classes)
    assert (found.confidence[~broken] > 0).all() and (found.confidence <= 1).all()
    assert any("3 points with NaN" in note for note in found.notes)
    assert found.classes.colours.shape == (len(found.classes.names), 3)
    assert found.voxels > 100 and set(found.timings) >= {"features", "network", "labels"}


def test_the_order_of_points_does_not_matter(room, untrained):
    order = np.random.default_rng(0).permutation(len(room))
    straight = segment(room, untrained / "rooms.pt", up="z")
    shuffled = segment(room.select(order), untrained / "rooms.pt", up="z")
    assert (straight.label[order] == shuffled.label).mean() > 0.999
    assert np.allclose(straight.confidence[order], shuffled.confidence, atol=1e-3)


def test_tiles_change_little(room, untrained):
    whole = segment(room, untrained / "rooms.pt", up="z")
    done = []
    tiled = segment(
        room,
        untrained / "rooms.pt",
        up="z",
        largest_tile=whole.voxels // 3,
        progress=lambda stage, now, total: done.append((stage, now, total)),
    )
    assert len(done) >= 3 and done[-1] == ("segment", len(room), len(room))
    assert (tiled.label >= 0).all()
    assert (tiled.label == whole.label).mean() > 0.95


def test_a_turned_scan_gets_the_same_labels_when_up_is_told(room, untrained):
    straight = segment(room, untrained / "rooms.pt", up="z")
    # a quarter turn about x: up becomes -y
    turned = PointCloud(room.xyz[:, [0, 2, 1]] * np.array([1.0, -1.0, 1.0]))
    found = segment(turned, untrained / "rooms.pt", up="-y")
    assert found.up.tolist() == [0.0, -1.0, 0.0]
    assert (found.label == straight.label).mean() > 0.9


def test_feet_are_metres(room, untrained):
    feet = PointCloud(room.xyz / 0.3048, {}, {"unit": "foot"})
    metres, found = (segment(cloud, untrained / "rooms.pt", up="z") for cloud in (room, feet))
    assert (found.label == metres.label).mean() > 0.99
    assert any("foot" in note for note in found.notes)


def test_coordinates_far_from_the_origin_are_as_good(room, untrained):
    far = PointCloud(room.xyz + np.array([636_000.0, 849_000.0, 400.0]))
    for name in ("rooms", "streets"):
        near, found = (segment(cloud, untrained / f"{name}.pt", up="z") for cloud in (room, far))
        assert (found.confidence > 0).all()
        if name == "rooms":
            assert (found.label == near.label).mean() > 0.9
    assert any("origin is not inside" in note for note in found.notes)


@pytest.mark.parametrize("xyz", [np.zeros((0, 3)), np.full((4, 3), np.nan)])
def test_a_scan_without_finite_points_has_no_labels(xyz, untrained):
    for name in ("rooms", "streets"):
        found = segment(PointCloud(xyz), untrained / f"{name}.pt")
        assert found.label.tolist() == [-1] * len(xyz)
        assert found.voxels == 0


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_few_points_are_a_scan(count, untrained):
    xyz = np.random.default_rng(0).uniform(0, 1, (count, 3))
    for name in ("rooms", "streets"):
        assert (segment(PointCloud(xyz), untrained / f"{name}.pt").label >= 0).all()


def test_bad_arguments_are_refused(room, untrained, tmp_path):
    with pytest.raises(ValueError, match="up: expected auto or one of"):
        segment(room, untrained / "rooms.pt", up="w")
    with pytest.raises(FileNotFoundError, match="a checkpoint file"):
        segment(room, tmp_path / "none.pt")
