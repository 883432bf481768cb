"""How well the models of the package do, below what docs/models.md reports."""

import os
from pathlib import Path

import numpy as np
import pytest

from sparseconv.datasets.labels import ROOMS, STREETS
from sparseconv.tasks.evaluate import Report, evaluate, main, semantickitti
from sparseconv.tasks.metrics import iou, mean_iou
from sparseconv.tasks.scenes import held_out

REAL = os.environ.get("SPARSECONV_REALDATA")


def test_rooms_on_scenes_it_was_not_trained_on():
    report = evaluate("rooms", held_out("rooms", 4), ROOMS)
    share = dict(zip(report.names, iou(report.matrix), strict=True))
    assert share["floor"] > 0.9
    assert share["wall"] > 0.8
    assert mean_iou(report.matrix) > 0.6


def test_streets_on_scenes_it_was_not_trained_on():
    report = evaluate("streets", held_out("streets", 3), STREETS)
    share = dict(zip(report.names, iou(report.matrix), strict=True))
    assert share["road"] > 0.7
    assert share["vehicle"] > 0.7
    assert mean_iou(report.matrix) > 0.45


@pytest.mark.skipif(REAL is None, reason="SPARSECONV_REALDATA is not set: no real scans here")
def test_streets_on_a_real_labelled_scan():
    folder = Path(REAL) / "semantickitti" / "sequences" / "00"
    scan = semantickitti(folder / "velodyne" / "000000.bin", folder / "labels" / "000000.label")
    report = evaluate("streets", [scan], STREETS)
    share = dict(zip(report.names, iou(report.matrix), strict=True))
    assert share["road"] > 0.75
    assert share["building"] > 0.85
    assert mean_iou(report.matrix) > 0.5


def test_the_report_is_a_table_of_all_classes():
    text = Report(("a", "b"), np.array([[3, 1, 0], [0, 0, 0]]), 1).table()
    assert "| a | 4 | 0.750 |" in text
    assert "| b | 0 | - |" in text
    assert "| mean of classes that occur | | 0.750 |" in text


def test_the_command_prints_a_report(capsys):
    main(["rooms", "--scenes", "1"])
    assert "| floor |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["rooms", "--semantickitti", "a.bin", "--labels", "a.label"])
    assert "streets" in capsys.readouterr().err


def test_a_model_of_other_classes_is_refused():
    with pytest.raises(ValueError, match="model: expected classes road"):
        evaluate("rooms", held_out("streets", 1), STREETS)
