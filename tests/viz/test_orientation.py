import numpy as np
import pytest

from sparseconv.viz.orientation import AXES, horizontal_axes, up_vector


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_is_taken_at_its_word(axis):
    assert up_vector(np.zeros((1, 3)), axis).tolist() == list(AXES[axis])


def test_a_vector_is_scaled_to_length_one():
    assert up_vector(np.zeros((1, 3)), np.array([0, 3, 4])).tolist() == [0, 0.6, 0.8]


@pytest.mark.parametrize("bad", ["up", np.zeros(3), np.array([np.nan, 0, 1]), [1, 2]])
def test_what_is_no_direction_is_refused(bad):
    with pytest.raises(ValueError, match="up: expected"):
        up_vector(np.zeros((1, 3)), bad)


@pytest.mark.parametrize("axis", AXES)
def test_labelled_floor_tells_up(room, room_classes, axis):
    wanted = np.array(AXES[axis])
    first, second = horizontal_axes(wanted)
    xyz = room.xyz @ np.stack([first, second, wanted])
    found = up_vector(xyz, labels=room.attributes["label"], names=room_classes)
    assert found.tolist() == wanted.tolist()


def test_a_tilted_floor_gives_a_tilted_up(room, room_classes):
    wanted = np.array([0.3, -0.4, 0.85]) / np.linalg.norm([0.3, -0.4, 0.85])
    xyz = room.xyz @ np.stack([*horizontal_axes(wanted), wanted])
    found = up_vector(xyz, labels=room.attributes["label"], names=room_classes)
    assert found @ wanted > 0.9999


def test_without_labels_z_is_up(room, street):
    assert up_vector(room.xyz).tolist() == [0, 0, 1]
    assert up_vector(street.xyz).tolist() == [0, 0, 1]


def test_a_camera_frame_has_y_down():
    # a floor and one wall, as a camera sees them: y down, z ahead
    across, along = np.meshgrid(np.linspace(-2, 2, 80), np.linspace(0, 1, 80))
    floor = np.stack([across, np.full_like(across, 1.2), 1 + 4 * along], axis=-1).reshape(-1, 3)
    chair = np.random.default_rng(0).uniform([-0.3, 0.3, 2.5], [0.3, 1.2, 3.1], (800, 3))
    wall = np.stack([across, 1.2 - along, np.full_like(across, 5.0)], axis=-1).reshape(-1, 3)
    assert up_vector(np.concatenate([floor, chair, wall[:3000]])).tolist() == [0, -1, 0]


def test_a_depth_image_has_y_down_even_without_a_floor():
    z = np.random.default_rng(0).uniform(1, 4, 5000)
    xy = np.random.default_rng(1).uniform(-0.5, 0.5, (5000, 2)) * z[:, None]
    assert up_vector(np.column_stack([xy, z])).tolist() == [0, -1, 0]


def test_a_map_high_above_the_sea_is_no_depth_image():
    random = np.random.default_rng(0)
    hills = random.uniform([-100, -100, 400], [100, 100, 402], (5000, 3))
    assert up_vector(hills).tolist() == [0, 0, 1]


def test_horizontal_axes_make_a_right_handed_frame():
    for axis in AXES.values():
        up = np.array(axis)
        first, second = horizontal_axes(up)
        assert np.linalg.det(np.stack([first, second, up])) == pytest.approx(1.0)
