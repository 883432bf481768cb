"""Which way is up."""

import numpy as np
import pytest

from sparseconv.datasets.procedural.room import generate_room
from sparseconv.tasks.upright import AXES, find_up, rotation, to_upright, up_axis

ROOMS = (2_000_000, 2_000_001, 2_000_002, 2_000_003)


def camera_frame(tilt):
    """Return the turn from z-up into the frame of a camera (y down) that looks down by `tilt`."""
    level = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    return rotation(np.array([1.0, 0.0, 0.0]), tilt) @ level


@pytest.fixture(scope="module")
def rooms():
    return [generate_room(seed).xyz for seed in ROOMS]


def right(xyz, turn):
    up, _ = find_up(xyz @ turn.T)
    return up @ turn[:, 2] > np.cos(np.radians(8))


@pytest.mark.parametrize("name", ["z up", "camera", "tilted camera"])
def test_rooms_in_the_usual_frames_are_set_upright(rooms, name):
    turn = {"z up": np.eye(3), "camera": camera_frame(0), "tilted camera": camera_frame(0.4)}[name]
    assert sum(right(xyz, turn) for xyz in rooms) >= len(rooms) - (name != "z up")


def test_a_furnished_room_in_any_pose_is_set_upright(rooms):
    turn = rotation(np.array([0.6, 0.0, 0.8]), 2.2) @ rotation(np.array([0.0, 1.0, 0.0]), 1.1)
    assert sum(right(xyz, turn) for xyz in rooms) >= len(rooms) - 2


def test_the_same_scan_gives_the_same_answer_and_says_how_sure_it_is(rooms):
    (up, reason), (again, _) = find_up(rooms[0]), find_up(rooms[0].copy())
    assert np.array_equal(up, again)
    assert "% sure" in reason and "--up" in reason


def test_a_nearly_level_scan_stays_exactly_as_it_is(rooms):
    up, _ = find_up(rooms[0] @ rotation(np.array([1.0, 0.0, 0.0]), 0.01).T)
    assert up.tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("name", AXES)
def test_to_upright_is_a_turn_that_brings_up_to_z(name):
    assert np.array_equal(to_upright(AXES[name][None], AXES[name]), [[0.0, 0.0, 1.0]])
    turned = to_upright(np.eye(3), AXES[name])
    assert np.allclose(turned @ turned.T, np.eye(3))
    assert np.linalg.det(turned) == pytest.approx(1.0)


def test_few_points_and_no_surface_are_no_reason_to_fail():
    assert find_up(np.zeros((0, 3)))[0].tolist() == [0.0, 0.0, 1.0]
    assert find_up(np.ones((500, 3)))[0].tolist() == [0.0, 0.0, 1.0]
    line = np.linspace(0, 1, 500)[:, None] * np.ones(3)
    assert np.isfinite(find_up(line)[0]).all()


def test_an_unknown_axis_is_refused():
    with pytest.raises(ValueError, match="up: expected auto or one of x, y, z, -x, -y, -z"):
        up_axis("w")
