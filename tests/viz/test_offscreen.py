import numpy as np
import pytest

from sparseconv.viz import offscreen, raster
from sparseconv.viz.camera import choose_camera

pytest.importorskip("open3d", reason="the extra io is not installed")


def test_open3d_and_numpy_draw_the_same_picture(room, capfd):
    up = np.array([0.0, 0.0, 1.0])
    size = (320, 240)
    keep = room.attributes["label"] != 1
    xyz = room.xyz[keep] + [636000.0, 849000.0, 0.0]
    rgb = np.zeros((len(xyz), 3), np.uint8)
    rgb[:, 0] = room.attributes["label"][keep] * 60
    rgb[:, 2] = 200
    camera = choose_camera(xyz, up, size=size)
    try:
        image, depth = offscreen.draw(xyz, rgb, camera, size, point_size=4)
    except offscreen.NoGraphicsError as error:
        pytest.skip(f"this machine has no graphics: {error}")
    other, other_depth = raster.draw(xyz, rgb, camera, size, point_size=4)
    both = np.isfinite(depth) & np.isfinite(other_depth)
    either = np.isfinite(depth) | np.isfinite(other_depth)
    assert both.sum() > 0.9 * either.sum() > 2000
    # squares and discs differ where a wall is seen at a flat angle
    close = np.abs(depth[both] - other_depth[both]) < 0.05
    assert close.mean() > 0.9
    # one step is what a driver may round
    same = (np.abs(image[both].astype(int) - other[both]) <= 1).all(axis=1)
    assert same.mean() > 0.95
    assert capfd.readouterr() == ("", "")


def test_a_point_falls_where_the_camera_says(room):
    size = (320, 240)
    camera = choose_camera(room.xyz, np.array([0.0, 0.0, 1.0]), size=size)
    points = room.xyz[[0, 1800, 3599]]
    rgb = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    try:
        image, depth = offscreen.draw(points, rgb, camera, size, point_size=6)
    except offscreen.NoGraphicsError as error:
        pytest.skip(f"this machine has no graphics: {error}")
    pixels, expected = camera.project(points, size)
    for row in range(3):
        shown = (image == rgb[row]).all(axis=-1)
        middle = np.argwhere(shown).mean(axis=0)[::-1]
        assert np.abs(middle - pixels[row]).max() < 0.8
        assert depth[shown] == pytest.approx(expected[row], rel=1e-3)


def test_what_open3d_cannot_draw_is_an_error_and_no_empty_picture(room):
    camera = choose_camera(np.zeros((1, 3)), np.array([0.0, 0.0, 1.0]))
    with pytest.raises(offscreen.NoGraphicsError):
        offscreen.draw(np.zeros((1, 3)), np.zeros((1, 3), np.uint8), camera, (320, 240))
