"""Print the tables of docs/performance.md as Markdown, from figures written with --json.

sparseconv bench --bars --seconds 2 --clock cpu --json bars.json
sparseconv families --bench --memory --threads 2 --json families.json
sparseconv bench --sweep --peers spconv,mm --seconds 1 --repeat 5 --clock cpu --json sweep.json
python docs/make_tables.py bars.json families.json sweep.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

from sparseconv.bench.bars import BARS
from sparseconv.bench.measure import OURS, Quartiles
from sparseconv.bench.peers import PEERS
from sparseconv.bench.plan import SWEPT_CHANNELS, SWEPT_SIZES
from sparseconv.bench.report import duration, ratio

NAMES = {"semantickitti": "SemanticKITTI", "fragment": "room scan", "few": "109 voxels"}
NAMES["street-2M"] = "street, 2M"
# × without a name is over spconv
OVER = {"": "", "spconv": "", "minkowski": "MinkowskiEngine", "sparseconvnet": "SparseConvNet"}


def line(*cells: object) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def head(*cells: str) -> list[str]:
    """Return the titles of a table and the rule below them."""
    return [line(*cells), "|" + "---|" * len(cells)]


def bars(found: list[dict[str, Any]]) -> list[str]:
    """Return the table of bars."""
    units = {bar.title: bar.unit for bar in BARS}
    lines = head("bar", "C", "scene", "wanted", "measured", "limit here", "of limit", "met")
    for bar in found:
        unit = units[bar["bar"]]
        figures = ["" if bar[k] is None else f"{bar[k]:.3g}{unit}" for k in ("measured", "limit")]
        met = "yes" if bar["met"] else "no"
        if "AMX" in bar["remark"]:
            met = "cannot be said"
        over = OVER.get(bar.get("over", ""), bar.get("over", ""))
        remarks = [met, f"over {over}" if over else "", bar["remark"]]
        lines.append(
            line(
                bar["bar"],
                bar["channels"] or "",
                NAMES.get(bar["scene"], bar["scene"]),
                f"{'≥' if bar['least'] else '≤'} {bar['wanted']:g}{unit}",
                *figures,
                "" if bar["share"] is None else f"{bar['share']:.2f}",
                ", ".join(text for text in remarks if text),
            )
        )
    return lines


def layers(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table of rows: ours, the peer, the yardsticks, ourselves otherwise."""
    lines = head(
        "scene", "what", "C", "threads", "ours", "GFLOP/s", "spconv ×", "fma", "copy", "itself ×"
    )
    for row in rows:
        if OURS not in row["seconds"]:
            continue
        seconds = row["seconds"][OURS]["median"]
        found = {name: Quartiles(**value) for name, value in row["ratios"].items()}
        yard = [f"{found[name].median:.2f}" if name in found else "" for name in ("fma", "copy")]
        own = [f"{n} {ratio(v)}" for n, v in found.items() if n not in PEERS]
        lines.append(
            line(
                NAMES.get(row["scene"], row["scene"]),
                row["title"],
                row["channels"] or "",
                row["threads"],
                duration(seconds),
                f"{row['flops'] / seconds / 1e9:.0f}" if row["flops"] else "",
                ratio(found["spconv"]) if "spconv" in found else "",
                *yard,
                ", ".join(text for text in own if "'s " not in text),
            )
        )
    return lines


def is_sweep(rows: list[dict[str, Any]]) -> bool:
    """Return whether rows are of `--sweep`, whose scenes are named after their sizes."""
    return bool(rows) and all(row["scene"].split("-")[-1] in SWEPT_SIZES for row in rows)


def sweep(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table of the sweep: GFLOP/s, spconv × and torch.mm × by size and width."""
    lines = head("scene", "what", *(f"C = {width}" for width in SWEPT_CHANNELS))
    cells: dict[tuple[str, str], dict[int, str]] = {}
    for row in rows:
        seconds = row["seconds"][OURS]["median"]
        found = [row["ratios"].get(peer) for peer in ("spconv", "mm")]
        parts = [f"{row['flops'] / seconds / 1e9:.0f}"]
        parts += [f"{ratio['median']:.2f}×" if ratio else "–" for ratio in found]
        cells.setdefault((row["scene"], row["title"]), {})[row["channels"]] = ", ".join(parts)
    for (scene, title), by_width in cells.items():
        lines.append(line(scene, title, *(by_width.get(width, "") for width in SWEPT_CHANNELS)))
    return lines


def families(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table of families."""
    lines = head(
        "family", "parameters", "Mflop", "forward", "both", "over plain", "quartiles", "memory / NC"
    )
    for row in rows:
        if row["error"]:
            lines.append(line(row["key"], "", "", "", "", row["error"], "", ""))
            continue
        spread = row["ratio"]
        lines.append(
            line(
                row["key"],
                f"{row['cost']['parameters']:,}",
                f"{row['cost']['flops'] / 1e6:,.0f}",
                duration(row["forward"]),
                duration(row["step"]),
                f"{spread['median']:.2f}",
                f"{spread['low']:.2f}–{spread['high']:.2f}",
                "" if row["memory"] is None else f"{row['memory']:.1f}",
            )
        )
    return lines


def main() -> None:
    """Print a table for each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    for path in parser.parse_args().files:
        found = json.loads(path.read_text())
        if isinstance(found, list):
            print("\n".join(families(found)), end="\n\n")
            continue
        if found.get("bars"):
            print("\n".join(bars(found["bars"])), end="\n\n")
        table = sweep if is_sweep(found["rows"]) else layers
        print("\n".join(table(found["rows"])), end="\n\n")


if __name__ == "__main__":
    main()
