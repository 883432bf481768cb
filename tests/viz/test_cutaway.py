import numpy as np
import pytest

from sparseconv.viz.camera import choose_camera
from sparseconv.viz.cutaway import behind_near_wall, below_ceiling

UP = np.array([0.0, 0.0, 1.0])


@pytest.mark.parametrize("labelled", [True, False])
def test_the_ceiling_goes_and_everything_low_stays(room, room_classes, labelled):
    label = room.attributes["label"]
    named = {"labels": label, "names": room_classes} if labelled else {}
    keep = below_ceiling(room.xyz, UP, **named)
    assert not keep[label == 1].any()
    assert keep[room.xyz[:, 2] < 2.2].all()


def test_a_room_without_ceiling_is_left_alone(room, room_classes):
    open_room = room.select(room.attributes["label"] != 1)
    named = {"labels": open_room.attributes["label"], "names": room_classes}
    assert below_ceiling(open_room.xyz, UP).all()
    assert below_ceiling(open_room.xyz, UP, **named).all()


def test_a_street_has_no_ceiling(street):
    assert below_ceiling(street.xyz, UP).all()


def test_walls_towards_the_camera_go_and_the_far_ones_stay(room, room_classes):
    label = room.attributes["label"]
    camera = choose_camera(room.xyz[label != 1], UP)
    keep = behind_near_wall(room.xyz, UP, camera, labels=label, names=room_classes)
    assert keep[label != 2].all()
    low, high = room.xyz.min(axis=0), room.xyz.max(axis=0)
    for axis in (0, 1):
        near, far = (high, low) if camera.eye[axis] > 0.5 * (low + high)[axis] else (low, high)
        middle = (room.xyz[:, 2] > 0.5) & (label == 2)
        along = room.xyz[:, 1 - axis]
        middle &= (along > low[1 - axis] + 0.6) & (along < high[1 - axis] - 0.6)
        assert keep[middle & (room.xyz[:, axis] == far[axis])].all()
        if abs(camera.forward[axis]) > 0.4:
            assert not keep[middle & (room.xyz[:, axis] == near[axis])].any()


def test_without_walls_nothing_goes(room, room_classes):
    floor = room.select(room.attributes["label"] == 0)
    camera = choose_camera(floor.xyz, UP)
    label = floor.attributes["label"]
    assert behind_near_wall(floor.xyz, UP, camera, labels=label, names=room_classes).all()
