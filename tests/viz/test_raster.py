import numpy as np
import pytest

from sparseconv.viz.camera import Camera
from sparseconv.viz.raster import draw

CAMERA = Camera(
    np.array([0.0, -10, 0]), np.array([0.0, 1, 0]), np.array([0.0, 0, 1]), np.radians(90.0)
)
RED, BLUE = [255, 0, 0], [0, 0, 255]


def colours(*rows):
    return np.array(rows, dtype=np.uint8)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_nearer_point_hides_the_farther(order):
    xyz = np.array([[0.0, 5, 0], [0, 0, 0]])[order]
    image, depth = draw(xyz, colours(RED, BLUE)[order], CAMERA, (41, 31), point_size=3)
    assert image[15, 20].tolist() == BLUE
    assert depth[15, 20] == pytest.approx(10)


def test_a_point_falls_where_the_camera_says():
    image, depth = draw(np.array([[2.0, 0, 1]]), colours(RED), CAMERA, (41, 31), point_size=1)
    pixels, _ = CAMERA.project(np.array([[2.0, 0, 1]]), (41, 31))
    column, row = np.rint(pixels[0]).astype(int)
    assert np.argwhere(np.isfinite(depth)).tolist() == [[row, column]]
    assert image[row, column].tolist() == RED


def test_dots_grow_with_the_point_size():
    areas = []
    for size in (1, 3, 8):
        _, depth = draw(np.zeros((1, 3)), colours(RED), CAMERA, (41, 31), point_size=size)
        areas.append(int(np.isfinite(depth).sum()))
    assert areas[0] == 1
    assert areas[1] == pytest.approx(9, abs=4)
    assert areas[2] == pytest.approx(64, abs=12)


def test_what_is_behind_or_beside_the_camera_is_not_drawn():
    xyz = np.array([[0.0, -20, 0], [500, 0, 0], [0, 0, -500]])
    image, depth = draw(xyz, colours(RED, RED, RED), CAMERA, (41, 31), background=(9, 8, 7))
    assert np.isinf(depth).all()
    assert (image == [9, 8, 7]).all()


def test_no_points_give_the_background():
    image, _ = draw(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), CAMERA, (41, 31))
    assert image.shape == (31, 41, 3)
    assert (image == 255).all()
