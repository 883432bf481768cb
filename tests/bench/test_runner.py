import json

import pytest
import torch

from sparseconv.bench import bars, runner
from sparseconv.bench.measure import OURS, Quartiles
from sparseconv.bench.ours import JOBS
from sparseconv.bench.peers import PEERS, Peer
from sparseconv.bench.plan import Step
from sparseconv.bench.problem import Job

PLAN = {"rulebook": None, "conv": 4, "unet": None, "fused-bfloat16": None}
SMALL = ["--scenes", "sheet", "--channels", "4", "--repeat", "3", "--seconds", "0.1"]


def test_table_and_json(tmp_path, capsys):
    file = tmp_path / "figures.json"
    threads = torch.get_num_threads()
    words = [
        *SMALL,
        "--clock",
        "cpu",
        "--cases",
        "rulebook,conv,voxelize",
        "--peers",
        "mm",
        "--json",
        str(file),
    ]
    assert runner.main(words) == 0
    assert torch.get_num_threads() == threads
    out, err = capsys.readouterr()
    assert "3³ submanifold forward" in out and " 826 " in out
    assert err.splitlines()[0] == "1/3 sheet: 3³ rulebook"
    found = json.loads(file.read_text())
    assert set(found) == {"machine", "threads", "clock", "peers", "rows"}
    assert found["threads"] == 1
    assert [row["case"] for row in found["rows"]] == ["rulebook", "conv", "voxelize"]
    conv = found["rows"][1]
    assert conv["channels"] == 4 and conv["rounds"] == 3 and not conv["errors"]
    assert conv["flops"] > 2 * conv["voxels"] * 16
    for part in (conv["seconds"]["sparseconv"], conv["ratios"]["mm"]):
        assert 0 < part["low"] <= part["median"] <= part["high"]
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_a_missing_peer_is_listed_with_its_pip_line(monkeypatch, capsys):
    absent = Peer("absent", "", {}, package="no_such_package", pip="pip install no-such-package")
    monkeypatch.setitem(PEERS, "absent", absent)
    assert runner.main([*SMALL, "--cases", "conv", "--peers", "absent", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "absent: missing; to run it beside: pip install no-such-package" in out
    assert err == ""


def test_a_disagreement_is_in_the_table_and_in_the_exit_code(monkeypatch, capsys):
    def wrong(problem):
        job = JOBS["conv"](problem)
        return Job(lambda: -job.run(), job.read)

    monkeypatch.setitem(PEERS, "wrong", Peer("wrong", "", {"conv": wrong}))
    assert runner.main([*SMALL, "--cases", "conv", "--peers", "wrong", "--quiet"]) == 1
    assert "results differ: features by 2.0e+00" in capsys.readouterr().out


def test_interrupted_runs_show_what_is_done(monkeypatch, capsys):
    real, calls = runner.measure, []

    def second_time_stops(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(runner, "measure", second_time_stops)
    assert runner.main([*SMALL, "--cases", "conv,gradient", "--peers", "none"]) == 130
    out, err = capsys.readouterr()
    assert "3³ submanifold forward" in out and "backward" not in out
    assert "stopped" in err


def test_bars_in_one_run(tmp_path, monkeypatch, capsys):
    few = [bar for bar in bars.BARS if not bar.scene]
    monkeypatch.setattr(bars, "BARS", few)
    file = tmp_path / "bars.json"
    words = ["--bars", "--scenes", "sheet", "--net", "4,4,4", "--repeat", "3", "--seconds", "0.01"]
    assert runner.main([*words, "--peers", "none", "--json", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "U-Net: stem 4, down 4, up 4" in out
    content = json.loads(file.read_text())
    assert {bar["bar"] for bar in content["bars"]} == {bar.title for bar in few}
    measured = {bar["bar"]: bar["measured"] for bar in content["bars"]}
    assert measured["U-Net rulebooks, a voxel"] > 0
    # no other library: nothing to be faster than
    assert measured["U-Net training step"] is None
    assert "1/" in err and "U-Net training step" in err


@pytest.mark.parametrize("named", [False, True])
def test_bars_take_minkowski_beside_nets_alone_unless_named(monkeypatch, named):
    steps = [Step(runner.CASES[name], "sheet", width, 1) for name, width in PLAN.items()]
    monkeypatch.setattr(runner, "bar_steps", lambda scenes: steps)
    seen = {}

    def measured(row, problem, kind, peers, **options):
        seen[row.case] = [peer.name for peer in peers if peer.name in PEERS]
        row.seconds[OURS] = Quartiles(1.0, 1.0, 1.0)
        return row

    monkeypatch.setattr(runner, "measure", measured)
    words = ["--bars", "--scenes", "sheet", "--net", "4,4,4", "--quiet"]
    runner.main(words + (["--peers", "spconv,minkowski"] if named else []))
    both = ["spconv", "minkowski"]
    layers = both if named else ["spconv"]
    assert [name for name in seen["conv"] if name in both] == layers
    assert [name for name in seen["rulebook"] if name in both] == layers
    assert all([n for n in seen[case] if n in both] == both for case in ("unet", "fused-bfloat16"))


def test_the_sweep_is_a_plan_of_its_own(monkeypatch):
    step = Step(runner.CASES["conv"], "few", 4, 1)
    monkeypatch.setattr(runner, "sweep", lambda cases, threads: [step])
    assert runner.main(["--sweep", "--quiet", "--repeat", "3", "--peers", "none"]) == 0


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--cases", "nothing"], "--cases"),
        (["--scenes", "moon"], "--scenes"),
        (["--peers", "nobody"], "--peers"),
        (["--channels", "4,x"], "--channels"),
        (["--channels", "0"], "--channels"),
        (["--net", "huge"], "--net"),
        (["--repeat", "0"], "--repeat"),
        (["--threads", "0"], "--threads"),
        (["--clock", "cpu", "--threads", "2"], "--clock"),
        (["--scan", "a.ply"], "--voxel"),
        (["--scan", "a.ply", "--voxel", "-1"], "--voxel"),
    ],
)
def test_bad_options_are_named(words, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        runner.main([*words, "--quiet"])


@pytest.mark.parametrize("can", [True, False])
def test_freed_memory_is_kept_where_asked_for(monkeypatch, tmp_path, capsys, can):
    called, file = [], tmp_path / "figures.json"
    monkeypatch.setattr(runner, "keep_freed_memory", lambda: called.append(None) or can)
    words = [*SMALL, "--cases", "conv", "--peers", "none", "--quiet", "--json", str(file)]
    assert runner.main(words) == 0 and not called
    assert json.loads(file.read_text())["machine"]["keeps_memory"] is False
    if not can:
        with pytest.raises(ValueError, match="--keep-memory: expected a C library"):
            runner.main([*words, "--keep-memory"])
        return
    capsys.readouterr()
    assert runner.main([*words, "--keep-memory"]) == 0 and called
    assert "freed memory kept in the process" in capsys.readouterr().out
    assert json.loads(file.read_text())["machine"]["keeps_memory"] is True
