"""Training: the same weights whether it was stopped or not."""

import csv
import os
import signal

import numpy as np
import pytest
import torch

from sparseconv.io.point_cloud import PointCloud
from sparseconv.io.registry import write
from sparseconv.tasks import scenes, train
from sparseconv.tasks.checkpoint import load_checkpoint
from sparseconv.tasks.segment import segment
from sparseconv.testing.tolerances import tolerance

OPTIONS = {"steps": 4, "batch": 1, "save_every": 2, "voxel": 0.15}


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch):
    monkeypatch.setattr(scenes, "TRAINING_SCENES", 3)
    monkeypatch.setattr(scenes, "VALIDATION_SCENES", 1)
    monkeypatch.setattr(train, "WEIGHING_SCENES", 2)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(path):
    return load_checkpoint(path)[0].state_dict()


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.fixture
def whole(tmp_path):
    train.train("rooms", tmp_path / "whole", **OPTIONS)
    return tmp_path / "whole"


def test_stopping_with_ctrl_c_and_going_on_changes_nothing(whole, tmp_path):
    out = tmp_path / "stopped"

    def interrupt(stage, done, total):
        assert (stage, total) == ("train", 4)
        if done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train.train("rooms", out, progress=interrupt, **OPTIONS)
    assert load_checkpoint(out / "last.pt")[2]["step"] == 3
    done = []
    train.train("rooms", out, progress=lambda stage, step, total: done.append(step), **OPTIONS)
    assert done == [4]
    assert same(weights(whole / "last.pt"), weights(out / "last.pt"))
    assert same(weights(whole / "best.pt"), weights(out / "best.pt"))


def mean_losses(out):
    rows = csv.DictReader((out / "log.csv").read_text().splitlines())
    return [float(row["loss"]) for row in rows]


def test_bfloat16_reaches_the_loss_of_float32(tmp_path):
    options = {**OPTIONS, "steps": 20, "save_every": 20}
    for precision in ("float32", "bfloat16"):
        train.train("rooms", tmp_path / precision, precision=precision, **options)
    full, half = mean_losses(tmp_path / "float32"), mean_losses(tmp_path / "bfloat16")
    assert full != half
    assert half[-1] < 0.9 * half[0]
    assert half == pytest.approx(full, rel=tolerance(torch.bfloat16, "loss")["rtol"])
    kept = weights(tmp_path / "bfloat16" / "last.pt")
    assert all(value.dtype != torch.bfloat16 for value in kept.values())
    with pytest.raises(ValueError, match=r"'precision': 'bfloat16'.*found"):
        train.train("rooms", tmp_path / "float32", precision="bfloat16", **options)


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ValueError, match="precision: expected float32 or bfloat16, found 'half'"):
        train.train("rooms", tmp_path, precision="half", **OPTIONS)


def test_a_finished_run_is_not_repeated_but_a_fresh_one_is(whole):
    def fail(*_):
        raise AssertionError("a step was done")

    train.train("rooms", whole, progress=fail, **OPTIONS)
    before = weights(whole / "last.pt")
    done = []
    train.train(
        "rooms", whole, resume=False, progress=lambda *step: done.append(step[1]), **OPTIONS
    )
    assert done == [1, 2, 3, 4]
    assert same(before, weights(whole / "last.pt"))


def test_the_log_has_a_row_per_validation(whole):
    rows = list(csv.DictReader((whole / "log.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [2, 4]
    assert all(0 <= float(row["validation_miou"]) <= 1 for row in rows)
    assert float(rows[-1]["loss"]) > 0


def test_another_run_in_the_same_folder_is_refused(whole):
    with pytest.raises(ValueError, match=r"last\.pt: expected a run of rooms .*'steps': 5.*"):
        train.train("rooms", whole, **{**OPTIONS, "steps": 5})


def test_init_starts_from_given_weights(whole, tmp_path):
    options = {**OPTIONS, "steps": 1}
    train.train("rooms", tmp_path / "more", init=whole / "last.pt", **options)
    train.train("rooms", tmp_path / "new", **options)
    given, more, new = (
        weights(path / "last.pt") for path in (whole, tmp_path / "more", tmp_path / "new")
    )
    name = "classify.weight"
    assert (more[name] - given[name]).abs().max() < (new[name] - given[name]).abs().max()


@pytest.mark.parametrize("name", ["steps", "batch", "save_every"])
def test_counts_below_one_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"{name}: expected a whole number above 0, found 0"):
        train.train("rooms", tmp_path, **{**OPTIONS, name: 0})


def test_a_folder_of_labelled_scans_trains_a_network_that_segments(tmp_path):
    rng = np.random.default_rng(0)
    for row in range(3):
        floor = np.c_[rng.uniform(0, 3, (1500, 2)), np.zeros(1500)]
        wall = np.c_[rng.uniform(0, 3, 1500), np.zeros(1500), rng.uniform(0, 2, 1500)]
        label = np.repeat([7, 12], 1500).astype(np.int32)
        label[:20] = 255
        write(
            tmp_path / f"scan{row}.ply", PointCloud(np.concatenate([floor, wall]), {"label": label})
        )
    best = train.train(tmp_path, tmp_path / "run", steps=40, batch=1, voxel=0.15, save_every=40)
    found = segment(PointCloud(np.concatenate([floor, wall])), best)
    assert found.classes.names == ("class 7", "class 12")
    assert (found.label[:1500] == 0).mean() > 0.8
    assert (found.label[1500:] == 1).mean() > 0.8


def test_a_folder_without_scans_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="scans"):
        train.train(tmp_path, tmp_path / "run")


def test_the_rate_rises_then_falls():
    rates = [train.learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0) and rates.index(max(rates)) in (9, 10)
    assert 0.01 <= rates[-1] < 0.02


def test_another_family_trains_goes_on_and_segments(tmp_path):
    out = tmp_path / "run"
    best = train.train("rooms", out, **{**OPTIONS, "steps": 2}, conv="depthwise")
    network, recipe, _ = load_checkpoint(best)
    assert recipe.conv == "depthwise"
    kinds = [type(m).__name__ for m in network.encode[0].modules()]
    assert "DepthwiseConv3d" in kinds and "SubMConv3d" not in kinds
    with pytest.raises(ValueError, match="'conv': 'depthwise'"):
        train.train("rooms", out, **{**OPTIONS, "steps": 2})
    scan = scenes.held_out("rooms", 1)[0]
    found = segment(scan.select(np.arange(len(scan)) % 5 == 0), best)
    assert len(found.label) and np.isfinite(found.confidence).all()
    with pytest.raises(ValueError, match="key: expected one of sparse"):
        train.train("rooms", tmp_path / "other", **OPTIONS, conv="nonsense")
