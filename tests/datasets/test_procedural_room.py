import numpy as np
import pytest

from sparseconv.datasets.labels import ROOMS
from sparseconv.datasets.procedural.room import generate_room

SEEDS = range(500, 524)


@pytest.fixture(scope="module")
def rooms():
    return [generate_room(seed, pose=False) for seed in SEEDS]


def test_same_seed_same_cloud_bit_for_bit():
    one, two = generate_room(3), generate_room(3)
    assert one.xyz.tobytes() == two.xyz.tobytes()
    for name in ("rgb", "label"):
        assert one.attributes[name].tobytes() == two.attributes[name].tobytes()


def test_other_seed_other_cloud():
    assert generate_room(3).xyz.tobytes() != generate_room(4).xyz.tobytes()


def test_every_class_occurs_and_large_ones_lead(rooms):
    label = np.concatenate([room.attributes["label"] for room in rooms])
    share = np.bincount(label, minlength=len(ROOMS)) / len(label)
    assert label.dtype == np.int32 and label.max() < len(ROOMS)
    assert share.min() > 0.005
    assert share[ROOMS.index("wall")] > 0.25 and share[ROOMS.index("floor")] > 0.1


def test_floor_lies_at_zero_and_ceiling_above_everything(rooms):
    for room in rooms:
        z, label = room.xyz[:, 2], room.attributes["label"]
        floor = z[label == ROOMS.index("floor")]
        ceiling = z[label == ROOMS.index("ceiling")]
        if len(floor) > 100:
            assert abs(np.median(floor)) < 0.03
            assert np.percentile(np.abs(floor), 95) < 0.15
        if len(ceiling) > 100:
            assert 2.2 < np.median(ceiling) < 3.2
            assert np.median(ceiling) > np.percentile(z[label != ROOMS.index("ceiling")], 95) - 0.1


def test_walls_are_upright(rooms):
    # along a wall the height varies while the footprint is thin: columns of wall points are tall
    room = max(rooms, key=lambda r: (r.attributes["label"] == ROOMS.index("wall")).sum())
    wall = room.xyz[room.attributes["label"] == ROOMS.index("wall")]
    cell = np.unique(np.floor(wall[:, :2] / 0.1).astype(int), axis=0)
    assert len(cell) * 4 < len(np.unique(np.floor(wall / 0.1).astype(int), axis=0))


def test_spacing_thins():
    cloud = generate_room(9, spacing=0.05)
    cells = np.unique(np.floor(cloud.xyz / 0.05).astype(int), axis=0)
    assert len(cloud) < 3 * len(cells)
    assert len(cloud) < len(generate_room(9, spacing=0.01))


def test_pose_turns_and_shifts_but_keeps_distances():
    plain, posed = generate_room(12, pose=False), generate_room(12)
    assert len(plain) == len(posed)
    assert not np.allclose(plain.xyz.mean(0), posed.xyz.mean(0), atol=0.05)
    rows = np.random.default_rng(0).integers(len(plain), size=(2, 200))
    before = np.linalg.norm(plain.xyz[rows[0]] - plain.xyz[rows[1]], axis=1)
    after = np.linalg.norm(posed.xyz[rows[0]] - posed.xyz[rows[1]], axis=1)
    np.testing.assert_allclose(before, after, atol=1e-5)


def test_colours_are_eight_bit(rooms):
    assert all(
        room.attributes["rgb"].dtype == np.uint8 and room.attributes["rgb"].shape == (len(room), 3)
        for room in rooms
    )
