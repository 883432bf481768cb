from itertools import pairwise

import pytest

from sparseconv.bench import bars
from sparseconv.bench.bars import BARS, Bar, bar_steps, judge
from sparseconv.bench.cases import CASES
from sparseconv.bench.engines import minkowski, spconv
from sparseconv.bench.measure import OURS, Quartiles, Row
from sparseconv.bench.report import bars_as_json, show_bars


def row(case, channels, scene="sheet", *, ours=1.0, floor=None, **others):
    made = Row(scene, case, "", channels, 1000, 0, floor=floor)
    made.seconds = {OURS: Quartiles(ours, ours, ours)}
    for name, seconds in others.items():
        made.seconds[name] = Quartiles(seconds, seconds, seconds)
        made.ratios[name] = Quartiles(seconds / ours, seconds / ours, seconds / ours)
    return made


def verdict(made, title, scene="sheet"):
    found = [v for v in judge([made], ["sheet"]) if v.bar.title == title and v.scene == scene]
    (only,) = [v for v in found if v.bar.channels == made.channels]
    return only


def test_a_ratio_to_the_fastest_peer_and_its_limit():
    # one peer takes 4, a yardstick 0.5; the least possible time is 0.8
    found = verdict(row("conv", 64, spconv=4.0, mm=0.5, fma=0.6, floor=0.8), "forward")
    assert (found.figure.measured, found.figure.limit) == (4.0, 5.0)
    assert found.met and found.share == pytest.approx(0.8) and found.figure.over == "spconv"


def test_layers_are_held_against_spconv_whoever_is_faster():
    made = row("conv", 64, spconv=4.0, minkowski=2.0, sparseconvnet=1.0, floor=0.8)
    found = verdict(made, "forward")
    assert (found.figure.measured, found.figure.limit) == (4.0, 5.0)
    for title, case in (
        ("3³ rulebook, shuffled", "rulebook-shuffled"),
        ("U-Net rulebooks", "unet-rulebooks"),
    ):
        assert verdict(row(case, None, spconv=30.0, minkowski=2.0), title).figure.over == "spconv"
    without = verdict(row("conv", 64, minkowski=2.0, floor=0.8), "forward")
    assert without.figure is None and without.remark == "no spconv here"


NETS = {
    "U-Net forward": "unet",
    "U-Net forward, fused": "fused",
    "U-Net forward, bfloat16": "unet-bfloat16",
    "U-Net forward, fused, bfloat16": "fused-bfloat16",
    "U-Net training step": "training",
    "U-Net training step, bfloat16": "training-bfloat16",
}


@pytest.mark.parametrize("title", NETS)
def test_nets_are_held_against_the_fastest_that_is_right(title):
    case, own = NETS[title], {"float32": 1.5, "not fused": 1.2}
    made = row(case, None, spconv=9.0, minkowski=7.5, mm=0.5, fma=0.6, copy=0.1, floor=0.5, **own)
    made.errors["sparseconvnet"] = "results differ: logits by 1"
    found = verdict(made, title)
    assert (found.figure.measured, found.figure.over) == (7.5, "minkowski") and found.met
    assert found.figure.limit == pytest.approx(15)
    assert verdict(row(case, None, spconv=9.0), title).figure.over == "spconv"
    assert verdict(row(case, None, mm=0.5, **own), title).remark == "no peer here"
    # the engines do every one of these rows
    assert CASES[case].kind in minkowski.JOBS and CASES[case].kind in spconv.JOBS


def test_a_bar_that_is_missed_counts_where_the_limit_is_near():
    near = verdict(row("conv", 64, spconv=2.0, floor=0.86), "forward")
    assert near.met and near.remark == "by the limit"
    far = verdict(row("conv", 64, spconv=2.0, floor=0.84), "forward")
    assert not far.met and far.share == pytest.approx(0.84)
    disturbed = verdict(row("conv", 64, spconv=2.0, floor=1.2), "forward")
    assert not disturbed.met and disturbed.remark == ""
    assert not verdict(row("conv", 64, spconv=2.0), "forward").met


def test_without_a_peer_there_is_no_figure():
    found = verdict(row("conv", 64, mm=2.0, fma=0.5, copy=0.1, floor=0.5), "forward")
    assert found.figure is None and not found.met
    assert found.remark == "no spconv here"
    wrong = row("conv", 64)
    wrong.errors["spconv"] = "results differ: features by 1"
    assert verdict(wrong, "forward").remark == "results differ: features by 1"


def test_shares_of_the_peak():
    found = verdict(row("conv", 64, fma=0.7, floor=0.8), "forward, of the FMA peak")
    assert found.figure.measured == 0.7 and found.figure.limit == pytest.approx(0.7 / 0.8)
    assert found.met
    assert not verdict(row("conv", 64, fma=0.5, floor=0.5), "forward, of the FMA peak").met


def test_least_and_most():
    title = "U-Net rulebooks, a voxel"
    found = verdict(row("unet-rulebooks", None, ours=79e-6, floor=1e-6), title)
    assert found.figure.measured == pytest.approx(79) and found.met
    assert not verdict(row("unet-rulebooks", None, ours=81e-6, floor=1e-6), title).met
    title = "shuffled rows over ordered"
    assert verdict(row("shuffled", 64, **{"in order": 0.8}), title).met
    assert not verdict(row("shuffled", 64, **{"in order": 0.7}), title).met


def test_two_threads_against_what_two_threads_can(monkeypatch):
    monkeypatch.setattr(bars.os, "cpu_count", lambda: 2)
    made = row("threads", 64, fma=0.5, **{"1 thread": 1.7, "1 thread's fma": 0.95})
    found = verdict(made, "2 threads over 1")
    assert found.figure.limit == pytest.approx(1.9)
    assert found.met and found.remark == "by the limit"
    made = row("threads", 64, fma=0.5, **{"1 thread": 1.4, "1 thread's fma": 0.6})
    found = verdict(made, "2 threads over 1")
    assert not found.met and found.remark == "other programs held the second core"


def test_memory_and_calls():
    made = Row("sheet", "memory", "", None, 1000, 0)
    made.values = {"peak": 1.4e6, "needed": 1.0e6, "rows": 0}
    found = verdict(made, "peak memory over needed")
    assert found.figure.measured == pytest.approx(1.4) and not found.met
    call = verdict(row("overhead", None, "few", ours=5e-5), "call of a layer, 100 voxels", "few")
    assert call.figure.measured == pytest.approx(50) and call.met


def test_what_cannot_be_measured_says_so(monkeypatch):
    monkeypatch.setattr(bars, "instruction_set", lambda: "avx2")
    title = "bfloat16 with AMX over float32"
    found = verdict(row("conv-bfloat16", 64, float32=9.0, floor=0.1), title)
    assert not found.met and found.remark == "no AMX here" and found.figure.measured == 9.0
    monkeypatch.setattr(bars, "instruction_set", lambda: "amx")
    assert verdict(row("conv-bfloat16", 64, float32=9.0, floor=0.1), title).met


def test_every_row_that_a_bar_needs_is_measured_once(monkeypatch):
    monkeypatch.setattr(bars.os, "cpu_count", lambda: 2)
    steps = bar_steps(["street", "room"])
    assert len(set(steps)) == len(steps)
    for bar in BARS:
        for scene in (bar.scene,) if bar.scene else ("street", "room"):
            (step,) = [
                s
                for s in steps
                if (s.case.name, s.channels, s.scene) == (bar.case, bar.channels, scene)
            ]
            assert step.threads == bar.threads
            assert CASES[bar.case].swept == (bar.channels is not None)
    # the nets take minutes: what was done before them is shown if they are cut short
    kinds = [step.case.name for step in steps]
    nets = [i for i, kind in enumerate(kinds) if kind in ("memory", "unet", "training")]
    assert min(nets) > max(i for i, kind in enumerate(kinds) if kind in ("threads", "scale"))
    # one scene after another
    assert len([a for a, b in pairwise(steps) if a.scene != b.scene]) == 5
    monkeypatch.setattr(bars.os, "cpu_count", lambda: 1)
    assert "threads" not in [step.case.name for step in bar_steps(["street"])]


def test_table_and_json(capsys):
    made = judge([row("conv", 64, spconv=4.0, fma=0.7, floor=0.8)], ["sheet"])
    show_bars(made, "stem 8")
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if "forward" in line and "≥ 3×" in line]
    cells = [cell.strip() for cell in line.strip("│ ").split("│")]
    assert cells == ["forward", "sheet", "64", "≥ 3×", "4×", "spconv", "5×", "0.80", "yes"]
    assert "U-Net: stem 8" in out
    first = next(v for v in bars_as_json(made) if v["bar"] == "forward")
    assert (
        first["measured"] == 4.0
        and first["over"] == "spconv"
        and first["met"]
        and first["wanted"] == 3
    )


def test_a_bar_knows_its_case():
    assert all(isinstance(bar, Bar) and bar.case in CASES for bar in BARS)
