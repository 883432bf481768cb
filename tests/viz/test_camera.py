import numpy as np
import pytest

from sparseconv.viz.camera import Camera, choose_camera, focus, is_landscape

UP = np.array([0.0, 0.0, 1.0])
SIZE = (640, 480)


@pytest.fixture
def camera():
    return Camera(np.array([0.0, -10, 0]), np.array([0.0, 1, 0]), UP, np.radians(90.0))


def test_projection_is_that_of_a_pinhole(camera):
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 0, 1], [0, -20, 0]])
    pixels, depth = camera.project(points, SIZE)
    # 90 degrees: half the height of 480 pixels is as far as the depth of 10
    assert pixels[0] == pytest.approx([319.5, 239.5])
    assert pixels[1] == pytest.approx([319.5 + 24, 239.5])
    assert pixels[2] == pytest.approx([319.5, 239.5 - 24])
    assert depth == pytest.approx([10, 10, 10, -10])


def test_extrinsic_is_a_rigid_motion_that_sends_the_eye_to_zero(camera):
    matrix = camera.extrinsic()
    assert matrix[:3, :3] @ matrix[:3, :3].T == pytest.approx(np.eye(3))
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1.0)
    assert matrix @ [*camera.eye, 1] == pytest.approx([0, 0, 0, 1])


def test_a_room_is_not_a_landscape_and_a_street_is(room, street):
    assert not is_landscape(room.xyz, UP)
    assert is_landscape(street.xyz, UP)


def test_chosen_camera_holds_the_room_and_looks_down(room):
    camera = choose_camera(room.xyz, UP, size=SIZE)
    pixels, depth = camera.project(room.xyz, SIZE)
    inside = (depth > 0) & (pixels >= 0).all(axis=1) & (pixels < SIZE).all(axis=1)
    assert inside.mean() > 0.99
    assert np.ptp(pixels, axis=0).max() > 0.7 * min(SIZE)
    assert camera.forward @ UP < -0.4
    assert camera.up @ UP > 0.4


def test_strays_do_not_push_the_camera_away(room):
    stray = np.concatenate([room.xyz, [[500.0, 300, 100], [-800, 0, 0], [0, 0, -90]]])
    plain = choose_camera(room.xyz, UP, size=SIZE)
    other = choose_camera(stray, UP, size=SIZE)
    assert np.linalg.norm(plain.eye - other.eye) < 0.2 * np.linalg.norm(plain.eye)


def test_large_coordinates_give_the_same_view(room):
    offset = np.array([636000.0, 849000.0, 400.0])
    plain = choose_camera(room.xyz, UP, size=SIZE)
    moved = choose_camera(room.xyz + offset, UP, size=SIZE)
    assert moved.eye - offset == pytest.approx(plain.eye, abs=1e-3)


def test_a_corner_is_looked_at_from_its_open_side():
    random = np.random.default_rng(0)
    floor = random.uniform([0, 0, 0], [4, 4, 0.01], (6000, 3))
    walls = [random.uniform([0, 0, 0], [4, 0.01, 3], (6000, 3))]
    walls.append(random.uniform([0, 0, 0], [0.01, 4, 3], (6000, 3)))
    shelf = random.uniform([0.1, 0.1, 0], [1, 1, 1.5], (3000, 3))
    camera = choose_camera(np.concatenate([floor, *walls, shelf]), UP, size=SIZE)
    assert camera.eye[0] > 2
    assert camera.eye[1] > 2


def test_normals_turn_the_camera_to_the_front(room):
    wall = np.random.default_rng(0).uniform([0, 0, 0], [4, 0.01, 3], (4000, 3))
    for side in (-1.0, 1.0):
        normals = np.tile([0.0, side, 0.0], (len(wall), 1))
        assert choose_camera(wall, UP, size=SIZE, normals=normals).forward[1] * side < 0


def test_a_depth_image_is_looked_at_from_where_it_was_taken():
    z = np.random.default_rng(0).uniform(1, 4, 5000)
    xy = np.random.default_rng(1).uniform(-0.5, 0.5, (5000, 2)) * z[:, None]
    up, ahead = np.array([0.0, -1, 0]), np.array([0.0, 0, 1])
    camera = choose_camera(np.column_stack([xy, z]), up, size=SIZE, ahead=ahead)
    assert camera.forward @ ahead > 0.85
    assert camera.forward @ up < -0.3


def test_focus_of_a_street_is_its_dense_middle(street):
    kept = street.xyz[focus(street.xyz, UP)]
    assert np.abs(kept[:, 0]).max() < 0.5 * np.abs(street.xyz[:, 0]).max()


@pytest.mark.parametrize("count", [1, 2])
def test_single_points_have_a_camera(count):
    camera = choose_camera(np.ones((count, 3)), UP, size=SIZE)
    pixels, depth = camera.project(np.ones((1, 3)), SIZE)
    assert depth[0] > 0
    assert pixels[0] == pytest.approx([319.5, 239.5], abs=1)
