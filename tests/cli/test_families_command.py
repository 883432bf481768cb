import json

import pytest

from sparseconv.bench import families as bench
from sparseconv.cli.main import main
from sparseconv.nn.families import families

FEW = "submanifold,grouped"


def test_every_family_is_listed_with_what_it_costs(capsys):
    assert main(["families", "--channels", "8"]) == 0
    out, err = capsys.readouterr()
    lines = {line.split()[1]: line.split() for line in out.splitlines()[2:] if line[:1].isdigit()}
    assert err == "" and set(lines) == {entry.key for entry in families()}
    assert lines["submanifold"][2] == "SubMConv3d"
    assert f"{27 * 8 * 8 + 8:,}" in lines["submanifold"]


def test_timing_on_a_scan_of_ones_own(scan, capsys):
    words = ["--bench", "scan.ply", "--voxel", "0.4", "--channels", "8", "--only", FEW]
    assert main(["families", *words, "--json", "figures.json"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("scan.ply: ") and "C = 8" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert set(FEW.split(",")) <= set(rows)
    figures = {row["key"]: row for row in json.loads((scan.parent / "figures.json").read_text())}
    assert figures["grouped"]["cost"]["parameters"] < figures["submanifold"]["cost"]["parameters"]
    assert 0 < figures["grouped"]["forward"] < figures["grouped"]["step"]
    assert rows["grouped"][5] == f"{figures['grouped']['ratio']['median']:.2f}"


def test_an_interrupted_run_shows_what_is_done(scan, monkeypatch, capsys):
    timed = bench.time_family

    def stop_at_the_second(entry, x):
        if entry.key == "grouped":
            raise KeyboardInterrupt
        return timed(entry, x, rounds=3)

    monkeypatch.setattr(bench, "time_family", stop_at_the_second)
    assert main(["families", "--bench", "scan.ply", "--only", FEW, "--json", "f.json"]) == 130
    out, err = capsys.readouterr()
    assert "submanifold" in out and "1 of 2 families are in the table" in err
    assert not (scan.parent / "f.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--only", "foo"], 1, "key: expected one of sparse, "),
        (["--bench", "nowhere.ply"], 1, "nowhere.ply: expected a file"),
        (["--memory"], 2, "--memory goes with --bench"),
        (["--channels", "0"], 2, "expected a whole number above 0"),
    ],
)
def test_refusals(scan, words, code, said, capsys):
    assert main(["families", *words]) == code
    assert said in capsys.readouterr().err
