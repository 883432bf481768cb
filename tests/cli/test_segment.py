import json
import subprocess
import sys

import numpy as np
import pytest

from sparseconv.cli.main import main
from sparseconv.cli.segment import class_rows
from sparseconv.io.point_cloud import PointCloud
from sparseconv.io.registry import read, readable_suffixes, writable_suffixes, write


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def failing(capsys, words, line, code=1):
    assert main(words) == code
    assert capsys.readouterr() == ("", line + "\n")


def test_every_point_and_attribute_is_kept_in_order(scan, cloud, tasks, capsys):
    assert main(["segment", "scan.ply", "-o", "out.ply"]) == 0
    result = read("out.ply")
    assert np.array_equal(result.xyz, cloud.xyz)
    assert list(result.attributes) == ["rgb", "ring", "label", "confidence"]
    for name in ("rgb", "ring"):
        assert np.array_equal(result.attributes[name], cloud.attributes[name])
    assert np.array_equal(result.attributes["label"], np.where(cloud.xyz[:, 2] < 1, 0, 1))
    assert result.attributes["confidence"].dtype == np.float32
    assert files(scan.parent) == ["out.ply", "scan.ply"]
    assert "comment class 1 wall" in result.meta["comments"]


def test_a_format_that_cannot_hold_labels_is_refused_before_the_work(scan, tasks, capsys):
    assert main(["segment", "scan.ply", "-o", "out.bin"]) == 1
    assert capsys.readouterr().err.startswith("sparseconv segment: out.bin: expected ")
    assert tasks == []


def test_the_table_says_what_was_found(scan, cloud, tasks, capsys):
    assert main(["segment", "scan.ply", "-o", "out.ply"]) == 0
    out, err = capsys.readouterr()
    floor = int((cloud.xyz[:, 2] < 1).sum())
    assert "scan.ply: 600 points, 321 voxels, model rooms" in out
    assert f"wall   {600 - floor:>6}" in out
    assert f"{100 * floor / 600:.1f} %        0.90" in out
    for line in ("network  1.50 s", "voxels   0.25 s", "peak memory 123 MB", "wrote out.ply"):
        assert line in out
    assert err.splitlines() == [
        "model: rooms (it has colours); --model or --checkpoint takes another",
        "note: up is z",
    ]


def test_the_output_has_a_name_by_default(scan, tasks, capsys):
    assert main(["segment", "scan.ply"]) == 0
    assert files(scan.parent) == ["scan.ply", "scan_labelled.ply"]


def test_options_reach_the_task(scan, tasks, capsys):
    assert main(["segment", "scan.ply", "--model", "streets", "--up=-y"]) == 0
    assert (tasks[0].model, tasks[0].up) == ("streets", "-y")
    assert capsys.readouterr().err == ""
    (scan.parent / "own.pt").write_bytes(b"weights")
    assert main(["segment", "scan.ply", "--checkpoint", "own.pt"]) == 0
    assert (tasks[1].model, tasks[1].up) == ("own.pt", "auto")


def test_threads_are_set_before_the_work(scan, tasks, monkeypatch):
    import torch

    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    assert main(["segment", "scan.ply", "--threads", "1"]) == 0
    assert main(["segment", "scan.ply", "-o", "again.ply"]) == 0
    assert asked == [1]


def test_json_is_the_only_output_and_complete(scan, tasks, capsys):
    assert main(["segment", "scan.ply", "-o", "out.ply", "--model", "rooms", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["points"] == 600
    assert report["voxels"] == 321
    assert report["peak_memory"] == 123_000_000
    assert report["up"] == [0, 0, 1]
    assert report["notes"] == ["up is z"]
    assert sum(row["points"] for row in report["classes"]) == 600
    assert sum(row["share"] for row in report["classes"]) == pytest.approx(1)
    assert set(report["seconds"]) == {"read", "voxels", "network", "write"}


def test_a_picture_is_written_beside(scan, tasks, capsys):
    image = pytest.importorskip("PIL.Image", reason="the extra io is not installed")
    assert main(["segment", "scan.ply", "-o", "out.ply", "--snapshot", "out.png"]) == 0
    assert files(scan.parent) == ["out.ply", "out.png", "scan.ply"]
    with image.open("out.png") as picture:
        assert picture.size == (1280, 960)
        assert len(picture.convert("RGB").getcolors(2**20)) > 20
    assert "wrote out.ply and out.png" in capsys.readouterr().out


def test_labels_of_the_scan_are_kept_under_another_name(scan, cloud, tasks, capsys):
    own = np.arange(600, dtype=np.int32)
    write("own.ply", cloud.with_attributes(label=own, input_label=own + 1))
    assert main(["segment", "own.ply", "-o", "out.ply", "--model", "rooms"]) == 0
    result = read("out.ply")
    assert np.array_equal(result.attributes["input_label_"], own)
    assert np.array_equal(result.attributes["input_label"], own + 1)
    assert set(np.unique(result.attributes["label"])) == {0, 1}
    err = capsys.readouterr().err.splitlines()
    assert err == ["note: up is z", "the scan's own label is kept as input_label_"]


def test_a_missing_file(scan, capsys):
    failing(
        capsys,
        ["segment", "gone.ply"],
        "sparseconv segment: gone.ply: expected a file, found nothing there; check the path",
    )


def test_a_folder_is_no_scan(scan, capsys):
    failing(
        capsys,
        ["segment", "."],
        "sparseconv segment: .: expected a file, found a folder; name one file in it",
    )


def test_an_unknown_suffix(scan, tasks, capsys):
    (scan.parent / "scan.foo").write_bytes(b"?")
    known = " ".join(sorted(readable_suffixes()))
    failing(
        capsys,
        ["segment", "scan.foo"],
        f"sparseconv segment: scan.foo: expected one of {known}, found .foo; "
        "convert it to one of these first",
    )


def test_an_output_of_unknown_suffix(scan, tasks, capsys):
    known = " ".join(sorted(writable_suffixes()))
    failing(
        capsys,
        ["segment", "scan.ply", "-o", "out.foo"],
        f"sparseconv segment: out.foo: expected one of {known}, found .foo; "
        "name the output with one of these",
    )
    failing(
        capsys,
        ["segment", "scan.ply", "--snapshot", "out.jpg"],
        "sparseconv segment: out.jpg: expected one of .png, found .jpg; "
        "name the output with one of these",
    )
    assert tasks == []


def test_an_output_that_cannot_be_written(scan, tasks, capsys):
    failing(
        capsys,
        ["segment", "scan.ply", "-o", "gone/out.ply"],
        "sparseconv segment: gone/out.ply: expected a folder to write into, found no such folder; "
        "make it: mkdir -p gone",
    )
    failing(
        capsys,
        ["segment", "scan.ply", "-o", "scan.ply"],
        "sparseconv segment: scan.ply: expected a new file, found the input itself; "
        "choose another name, so that the scan is not replaced",
    )
    (scan.parent / "taken.ply").mkdir()
    failing(
        capsys,
        ["segment", "scan.ply", "-o", "taken.ply"],
        "sparseconv segment: taken.ply: expected a file to write, found a folder; "
        "name a file in it",
    )
    assert tasks == []


def test_a_folder_without_permission(scan, tasks, capsys, monkeypatch):
    from sparseconv.cli import source

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(source.tempfile, "NamedTemporaryFile", refuse)
    failing(
        capsys,
        ["segment", "scan.ply", "-o", "out.ply"],
        "sparseconv segment: out.ply: expected a folder to write into, found permission denied; "
        "choose another place with -o",
    )
    assert tasks == []


def test_an_empty_cloud(scan, tasks, capsys):
    write("empty.ply", PointCloud(np.zeros((0, 3))))
    failing(
        capsys,
        ["segment", "empty.ply", "-o", "out.ply"],
        "sparseconv segment: empty.ply: expected at least one point, found none",
    )


def test_a_cloud_of_nan(scan, tasks, capsys):
    write("nan.ply", PointCloud(np.full((1200, 3), np.nan)))
    failing(
        capsys,
        ["segment", "nan.ply", "-o", "out.ply"],
        "sparseconv segment: nan.ply: expected points with finite coordinates, "
        "found 1,200 of which every one has NaN or infinity",
    )
    assert files(scan.parent) == ["nan.ply", "scan.ply"]


@pytest.mark.parametrize("place", ["segment", "snapshot", "write"])
def test_ctrl_c_leaves_nothing(scan, tasks, capsys, monkeypatch, fake, place):
    import importlib

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    if place == "segment":
        fake("sparseconv.tasks.segment", segment=interrupt)
    elif place == "snapshot":
        module = importlib.import_module("sparseconv.viz.snapshot")
        monkeypatch.setattr(module, "render", interrupt)
    else:
        monkeypatch.setattr(importlib.import_module("sparseconv.io.registry"), "write", interrupt)
    words = ["segment", "scan.ply", "-o", "out.ply", "--snapshot", "out.png", "--model", "rooms"]
    assert main(words) == 130
    assert files(scan.parent) == ["scan.ply"]
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == "sparseconv segment: interrupted; nothing was written"


def test_rows_are_sorted_and_strangers_counted():
    label = np.array([1, 1, 1, 0, -1, 255, 255])
    confidence = np.array([1, 0.5, 0, 0.25, 0, np.nan, 0], np.float32)
    rows = class_rows(label, confidence, ("floor", "wall", "door"))
    assert [(row["class"], row["points"], row["confidence"]) for row in rows] == [
        ("wall", 3, 0.5),
        ("floor", 1, 0.25),
        ("unlabelled", 3, None),
    ]


def test_errors_end_the_process_with_their_code(scan):
    command = [sys.executable, "-m", "sparseconv.cli.main", "segment", "gone.ply"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == (
        "sparseconv segment: gone.ply: expected a file, found nothing there; check the path\n"
    )
