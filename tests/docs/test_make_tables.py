"""Tables of performance.md from small figures, and the columns and families of those committed."""

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from sparseconv.bench.families import FamilyRow
from sparseconv.bench.measure import OURS, Quartiles, Row
from sparseconv.bench.report import as_json
from sparseconv.nn.cost import Cost
from sparseconv.nn.families import families

PAGE = (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8")
SPREAD = Quartiles(0.9, 1.0, 1.25)


@pytest.fixture(scope="module")
def made(script):
    return script("make_tables")


def family_rows():
    done = FamilyRow("depthwise", Cost(1792, 58_000_000, ("conv",)), 0.002, 0.0068, SPREAD, 3.06)
    return [asdict(done), asdict(FamilyRow("dense", error="refused: too large"))]


def layer_rows():
    row = Row("fragment", "conv", "a layer", 64, 1000, 2_000_000, rounds=3)
    row.seconds = {OURS: Quartiles(0.001, 0.002, 0.003)}
    row.ratios = {"fma": SPREAD, "spconv": SPREAD, "float32": SPREAD}
    left_out = Row("fragment", "conv", "another", 64, 1000, 2_000_000, rounds=0)
    return as_json([row, left_out], [], {"processor": "one"}, 1)


def bar_rows():
    shared = {"bar": "forward", "channels": 64, "scene": "few", "least": True, "share": 0.5}
    met = {**shared, "wanted": 3.0, "measured": 3.94, "limit": 7.9, "met": True, "remark": ""}
    unknown = {**shared, "channels": 0, "wanted": 3.0, "measured": None, "limit": None}
    unknown.update(share=None, met=False, remark="no AMX here")
    return [met, unknown]


def test_families(made):
    *_, done, refused = made.families(family_rows())
    assert done == "| depthwise | 1,792 | 58 | 2 ms | 6.8 ms | 1.00 | 0.90–1.25 | 3.1 |"
    assert refused == "| dense |  |  |  |  | refused: too large |  |  |"


def test_layers(made):
    found = made.layers(layer_rows()["rows"])
    assert len(found) == 3, "a row that was not timed is left out"
    assert found[2] == (
        "| room scan | a layer | 64 | 1 | 2 ms | 1 | 1.00 (0.90–1.25) | 1.00 |  | "
        "float32 1.00 (0.90–1.25) |"
    )


def test_bars(made):
    title = made.BARS[0].title
    rows = [{**row, "bar": title} for row in bar_rows()]
    *_, met, unknown = made.bars(rows)
    unit = made.BARS[0].unit
    assert met == (
        f"| {title} | 64 | 109 voxels | ≥ 3{unit} | 3.94{unit} | 7.9{unit} | 0.50 | yes |"
    )
    *_, over, plain = made.bars([{**rows[0], "over": "minkowski"}, {**rows[0], "over": "spconv"}])
    assert over.endswith("| yes, over MinkowskiEngine |") and plain == met
    assert unknown.endswith("|  |  |  | cannot be said, no AMX here |")


def test_sweep(made):
    rows = []
    for scene, width in (("room-1k", 16), ("room-1k", 256), ("room-500k", 4)):
        row = Row(scene, "conv", "a layer", width, 1000, 2_000_000, rounds=3)
        row.seconds = {OURS: Quartiles(0.00001, 0.00002, 0.00003)}
        row.ratios = {"mm": SPREAD} if scene == "room-500k" else {"mm": SPREAD, "spconv": SPREAD}
        rows.append(row)
    rows = as_json(rows, [], {"processor": "one"}, 1)["rows"]
    assert made.is_sweep(rows) and not made.is_sweep(layer_rows()["rows"])
    *_, small, large = made.sweep(rows)
    assert small == "| room-1k | a layer |  | 100, 1.00×, 1.00× |  | 100, 1.00×, 1.00× |"
    assert large == "| room-500k | a layer | 100, –, 1.00× |  |  |  |"


def test_all_files_are_printed(made, monkeypatch, tmp_path, capsys):
    families_file, layers_file = tmp_path / "families.json", tmp_path / "bars.json"
    families_file.write_text(json.dumps(family_rows()))
    layers_file.write_text(json.dumps(layer_rows()))
    monkeypatch.setattr(sys, "argv", ["make_tables.py", str(layers_file), str(families_file)])
    made.main()
    out = capsys.readouterr().out
    assert out.count("\n|---|") == 2 and "a layer" in out and "depthwise" in out


def test_the_page_has_the_scripts_columns_and_every_family(made):
    for head in (made.families([]), made.layers([]), made.bars([])):
        assert "\n".join(head) in PAGE, "other columns than the script's"
    start = PAGE.index(made.families([])[0])
    table = PAGE[start : PAGE.index("\n\n", start)].splitlines()[2:]
    keys = [re.match(r"\| (\w+) \|", row)[1] for row in table]
    assert keys == [entry.key for entry in families()]
