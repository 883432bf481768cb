import numpy as np
import pytest

from sparseconv.io.point_cloud import PointCloud
from sparseconv.viz import offscreen
from sparseconv.viz.palette import as_classes
from sparseconv.viz.snapshot import render, snapshot

Image = pytest.importorskip("PIL.Image", reason="the extra io is not installed")

SIZE = (480, 360)


def pixels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def has_colour(picture, colour):
    return bool((np.abs(picture.astype(int) - colour).max(axis=-1) <= 2).any())


@pytest.mark.parametrize("renderer", [None, "numpy"])
def test_a_labelled_room_shows_its_inside_and_a_legend(tmp_path, room, room_classes, renderer):
    path = tmp_path / "room.png"
    assert snapshot(room, path, "label", room_classes, size=SIZE, renderer=renderer) == path
    picture = pixels(path)
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    colours = as_classes(room_classes).colours
    scene, legend = picture[: int(0.8 * SIZE[1])], picture[int(0.9 * SIZE[1]) :]
    for row, name in enumerate(room_classes):
        assert has_colour(legend, colours[row]), name
        # the roof is named in the legend, but taken off the room
        assert has_colour(scene, colours[row]) == (name != "ceiling"), name
    # dots are darkened a little where they lap over one another
    floor = (np.abs(scene.astype(int) - colours[0]).max(axis=-1) <= 40).mean()
    assert floor > 0.15
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("colour", ["label", "rgb", "confidence", "height", "intensity", None])
def test_every_colouring_gives_a_picture_of_several_colours(tmp_path, room, colour):
    count = len(room)
    cloud = room.with_attributes(
        rgb=np.random.default_rng(0).integers(0, 256, (count, 3), dtype=np.uint8),
        confidence=np.linspace(0, 1, count, dtype=np.float32),
        intensity=np.linspace(0, 9, count, dtype=np.float32),
    )
    path = snapshot(cloud, tmp_path / "a.png", colour, size=SIZE, renderer="numpy")
    assert len(np.unique(pixels(path).reshape(-1, 3), axis=0)) > 20


def test_a_street_is_dark_a_room_is_white_unless_told(room, street):
    corner = {
        name: render(cloud, size=SIZE, renderer="numpy", **options)[-1, -1].tolist()
        for name, cloud, options in [
            ("room", room, {}),
            ("street", street, {}),
            ("white", street, {"background": "white"}),
        ]
    }
    assert corner == {"room": [255] * 3, "street": [24, 26, 31], "white": [255] * 3}


@pytest.mark.parametrize("error", [ImportError("no open3d"), offscreen.NoGraphicsError("no EGL")])
def test_without_graphics_numpy_draws(tmp_path, monkeypatch, room, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(offscreen, "draw", fail)
    path = snapshot(room, tmp_path / "a.png", size=SIZE)
    assert np.array_equal(pixels(path), render(room, size=SIZE, renderer="numpy"))


def test_points_without_coordinates_are_left_out(room):
    holes = np.full((5, 3), np.nan)
    label = np.concatenate([room.attributes["label"], np.zeros(5, np.int32)])
    cloud = PointCloud(np.concatenate([room.xyz, holes]), {"label": label})
    plain = render(room, size=SIZE, renderer="numpy")
    assert np.array_equal(render(cloud, size=SIZE, renderer="numpy"), plain)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_points_are_a_picture_too(count):
    cloud = PointCloud(np.arange(3.0 * count).reshape(count, 3))
    picture = render(cloud, size=SIZE, renderer="numpy")
    assert len(np.unique(picture[: SIZE[1] // 2].reshape(-1, 3), axis=0)) > 1


def test_refusals_say_what_to_do(tmp_path, room):
    with pytest.raises(ValueError, match=r"path: expected a file ending in .png, found a.jpg; add"):
        snapshot(room, tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"cloud: expected at least one point .*, found no points"):
        snapshot(PointCloud(np.zeros((0, 3))), tmp_path / "a.png")
    with pytest.raises(ValueError, match="found 2 points of which none is finite"):
        snapshot(PointCloud(np.full((2, 3), np.nan)), tmp_path / "a.png")
    with pytest.raises(ValueError, match="size: expected 160 x 120 to 8192 x 8192 pixels"):
        snapshot(room, tmp_path / "a.png", size=(10, 10))
    with pytest.raises(ValueError, match="background: expected auto or one of white, dark"):
        snapshot(room, tmp_path / "a.png", background="pink")
    with pytest.raises(ValueError, match="renderer: expected one of open3d, numpy"):
        snapshot(room, tmp_path / "a.png", renderer="vulkan")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_picture(tmp_path, monkeypatch, room):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        snapshot(room, path, size=SIZE, renderer="numpy")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_legend_wraps_when_there_are_many_classes(room):
    label = (np.arange(len(room)) % 24).astype(np.int32)
    names = [f"a class of some length {i}" for i in range(24)]
    cloud = PointCloud(room.xyz, {"label": label})
    picture = render(cloud, "label", names, size=SIZE, renderer="numpy", cutaway=False)
    assert picture.shape == (SIZE[1], SIZE[0], 3)
