import importlib

import pytest

from sparseconv.cli.main import main
from sparseconv.io.registry import write

viewer = importlib.import_module("sparseconv.viz.view")


def test_a_picture_needs_no_window(scan, capsys):
    image = pytest.importorskip("PIL.Image", reason="the extra io is not installed")
    words = ["view", "scan.ply", "--snapshot", "a.png", "--colour", "height", "--up", "z"]
    assert main(words) == 0
    assert capsys.readouterr().out == "wrote a.png\n"
    with image.open("a.png") as picture:
        assert picture.size == (1280, 960)


def test_without_a_screen_the_way_out_is_named(scan, capsys, monkeypatch):
    monkeypatch.setattr(viewer, "has_display", lambda: False)
    assert main(["view", "scan.ply"]) == 1
    assert capsys.readouterr() == (
        "",
        "sparseconv view: no display: expected a screen to open a window on, found none; "
        "write a picture instead: --snapshot picture.png\n",
    )


def test_with_a_screen_the_window_opens(scan, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(viewer, "has_display", lambda: True)
    monkeypatch.setattr(
        viewer, "view", lambda cloud, classes, **options: shown.append((cloud, classes, options))
    )
    assert main(["view", "scan.ply", "--classes", "floor, wall"]) == 0
    cloud, classes, options = shown[0]
    assert len(cloud) == 600
    assert classes == ("floor", "wall")
    assert (options["colour"], options["up"]) == (None, "auto")
    assert viewer.HELP in capsys.readouterr().out


def test_names_in_the_file_are_used(scan, cloud, monkeypatch):
    shown = []
    monkeypatch.setattr(viewer, "has_display", lambda: True)
    monkeypatch.setattr(viewer, "view", lambda cloud, classes, **_: shown.append(classes))
    write("named.ply", cloud.replace(meta={"comments": ["comment class 0 lamp"]}))
    assert main(["view", "named.ply"]) == 0
    assert shown == [("lamp",)]


def test_the_built_in_tables_have_names(scan, monkeypatch):
    shown = []
    monkeypatch.setattr(viewer, "has_display", lambda: True)
    monkeypatch.setattr(viewer, "view", lambda cloud, classes, **_: shown.append(classes))
    assert main(["view", "scan.ply", "--classes", "rooms"]) == 0
    assert "floor" in shown[0]


def test_a_colour_that_the_cloud_lacks(scan, capsys):
    assert main(["view", "scan.ply", "--snapshot", "a.png", "--colour", "label"]) == 1
    assert capsys.readouterr().err == (
        "sparseconv view: colour: expected a cloud with the attribute label, "
        "found rgb, ring; colour by height\n"
    )
    assert not (scan.parent / "a.png").exists()
