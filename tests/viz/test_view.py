import importlib

import numpy as np
import pytest

from sparseconv.viz.view import HELP, KEYS, Session, view

# the room's own name for the function hides the file of the same name
module = importlib.import_module("sparseconv.viz.view")

pytest.importorskip("PIL", reason="the extra io is not installed")


@pytest.fixture
def said():
    return []


@pytest.fixture
def session(room, room_classes, said):
    return Session(room, room_classes, say=said.append)


def test_it_starts_with_labels_and_without_ceiling(session, room):
    assert session.colour == "label"
    assert not session.shown[room.attributes["label"] == 1].any()
    assert session.point_size > 1


def test_keys_change_the_colours(session, said):
    before = session.rgb
    assert session.recolour("height")
    assert session.colour == "height"
    assert not np.array_equal(session.rgb, before)
    assert said == ["colouring: height"]
    assert session.recolour("label")
    assert np.array_equal(session.rgb, before)


def test_a_key_without_its_attribute_says_so_and_changes_nothing(session, said):
    before = session.rgb
    assert not session.recolour("confidence")
    assert session.colour == "label"
    assert np.array_equal(session.rgb, before)
    assert "expected a cloud with the attribute confidence, found label" in said[0]


def test_the_ceiling_comes_and_goes(session, said):
    hidden = (~session.shown).sum()
    session.toggle_cutaway()
    assert session.shown.all()
    session.toggle_cutaway()
    assert (~session.shown).sum() == hidden > 0
    assert said[0].startswith("0 points")


def test_help_names_every_key(session, said):
    assert session.help() is False
    assert said == [HELP]
    for key in [*KEYS, "X", "S", "H"]:
        assert f"\n{key}: " in HELP


def test_saving_never_replaces_a_picture(session, tmp_path):
    shot = np.full((240, 320, 3), 255, np.uint8)
    names = [session.save(shot, tmp_path).name for _ in range(2)]
    assert len(set(names)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_points_without_coordinates_are_left_out(room):
    xyz = room.xyz.copy()
    xyz[0] = np.nan
    assert len(Session(room.replace(xyz=xyz)).cloud) == len(room) - 1
    with pytest.raises(ValueError, match="cloud: expected at least one point with finite"):
        Session(room.replace(xyz=np.full_like(xyz, np.nan)))


def test_without_a_screen_the_way_out_is_named(monkeypatch, room):
    monkeypatch.setattr(module, "has_display", lambda: False)
    with pytest.raises(RuntimeError, match=r"display: expected a screen .* --snapshot picture.png"):
        view(room)


@pytest.mark.parametrize(
    ("platform", "variables", "wanted"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("darwin", {}, True),
        ("win32", {}, True),
    ],
)
def test_where_there_is_a_screen(monkeypatch, platform, variables, wanted):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module.sys, "platform", platform)
    assert module.has_display() is wanted


class Window:
    """Stands in for Open3D's window: keeps the callbacks and counts what it is told."""

    def __init__(self):
        self.keys, self.updates, self.geometry = {}, 0, None
        self.option = type("Option", (), {"point_size": 0})()

    def add_geometry(self, geometry):
        self.geometry = geometry

    def update_geometry(self, geometry):
        assert geometry is self.geometry
        self.updates += 1

    def get_render_option(self):
        return self.option

    def register_key_callback(self, key, action):
        self.keys[chr(key)] = action


def test_keys_of_the_window_redraw_it(monkeypatch, session, room):
    open3d = pytest.importorskip("open3d", reason="the extra io is not installed")
    monkeypatch.setattr(module, "place", lambda *_, **__: None)
    window = Window()
    module._fill(open3d, window, session)
    assert set(window.keys) == {*KEYS, "X", "S", "H"}
    assert len(window.geometry.points) == session.shown.sum()
    assert window.keys["X"](window) is True
    assert len(window.geometry.points) == len(room)
    assert window.keys["G"](window) is True
    assert window.keys["H"](window) is False
    assert window.keys["F"](window) is False
    assert window.updates == 2
