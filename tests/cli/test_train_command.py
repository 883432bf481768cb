from pathlib import Path

import pytest

from sparseconv.cli.main import main


@pytest.fixture
def runs(tmp_path, monkeypatch, fake):
    calls = []
    monkeypatch.chdir(tmp_path)
    fake("sparseconv.tasks.train", train=lambda *words, **options: calls.append((words, options)))
    return calls


def test_what_was_chosen_reaches_the_task_and_nothing_else(runs, capsys):
    assert main(["train", "rooms", "--out", "run"]) == 0
    words, options = runs[0]
    assert words == ("rooms", Path("run"))
    assert {name: options[name] for name in options if name != "progress"} == {"resume": True}
    assert Path("run").is_dir()
    out = capsys.readouterr().out
    assert "wrote run/best.pt, run/last.pt and run/log.csv" in out
    assert "sparseconv segment SCAN --checkpoint run/best.pt" in out


def test_every_option_reaches_the_task(runs):
    Path("scans").mkdir()
    Path("start.pt").touch()
    words = ["train", "scans", "--out", "run", "--steps", "7", "--batch", "2", "--voxel", "0.1"]
    words += ["--seed", "3", "--init", "start.pt", "--fresh", "--workers", "0"]
    assert main([*words, "--precision", "bfloat16", "--conv", "involution"]) == 0
    options = {name: value for name, value in runs[0][1].items() if name != "progress"}
    assert options == {
        "steps": 7,
        "batch": 2,
        "voxel": 0.1,
        "seed": 3,
        "init": "start.pt",
        "precision": "bfloat16",
        "workers": 0,
        "conv": "involution",
        "resume": False,
    }


@pytest.mark.parametrize("number", ["-1", "two"])
def test_a_senseless_number_of_workers_is_bad_usage(runs, capsys, number):
    assert main(["train", "rooms", "--out", "run", f"--workers={number}"]) == 2
    assert "--workers" in capsys.readouterr().err and runs == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["nowhere", "--out", "run"],
            "nowhere: expected rooms, streets or a folder of labelled scans, "
            "found nothing of that name",
        ),
        (
            ["a.ply", "--out", "run"],
            "a.ply: expected rooms, streets or a folder of labelled scans, found a file",
        ),
        (
            ["rooms", "--out", "a.ply"],
            "a.ply: expected a folder to write into, found a file",
        ),
        (
            ["rooms", "--out", "run", "--init", "gone.pt"],
            "gone.pt: expected a file, found nothing there; check the path",
        ),
    ],
)
def test_bad_input_is_one_line(runs, capsys, words, line):
    Path("a.ply").touch()
    assert main(["train", *words]) == 1
    assert capsys.readouterr() == ("", f"sparseconv train: {line}\n")
    assert runs == []


@pytest.mark.parametrize("saved", [True, False])
def test_ctrl_c_says_whether_there_is_something_to_go_on_from(runs, fake, capsys, saved):
    def train(dataset, out, **_):
        if saved:
            (out / "last.pt").touch()
        raise KeyboardInterrupt

    fake("sparseconv.tasks.train", train=train)
    assert main(["train", "rooms", "--out", "run"]) == 130
    told = "the same command goes on from run/last.pt" if saved else "nothing was written"
    assert capsys.readouterr().err == f"sparseconv train: interrupted; {told}\n"
