"""The table for people and the JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sparseconv._optional import require
from sparseconv.bench.bars import CLOSE, Verdict
from sparseconv.bench.measure import OURS, Quartiles, Row
from sparseconv.bench.peers import PEERS, Peer

INDEX = ("rulebook", "unet-rulebooks")


def duration(seconds: float) -> str:
    """Return seconds with three digits in a unit that fits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 1000 * size else f"{seconds:.0f} s"
    return f"{seconds * 1e6:.3g} µs"


def ratio(value: Quartiles) -> str:
    """Return a ratio with its quartiles."""
    digits = 2 if value.median >= 0.1 else 3
    low, median, high = (f"{v:.{digits}f}" for v in (value.low, value.median, value.high))
    return f"{median} ({low}–{high})"


def _time(row: Row) -> str:
    if OURS in row.errors:
        return f"[red]{row.errors[OURS]}[/red]"
    if row.values:
        return f"{row.values['peak'] / 1e6:,.0f} MB"
    return duration(row.seconds[OURS].median)


def _speed(row: Row) -> str:
    if row.values:
        return f"{row.values['peak'] / row.values['needed']:.2f} of needed"
    if OURS not in row.seconds:
        return ""
    seconds = row.seconds[OURS].median
    if row.flops:
        return f"{row.flops / seconds / 1e9:.0f} GFLOP/s"
    if row.case.startswith(INDEX):
        return f"{seconds / row.voxels * 1e9:.3g} ns/voxel"
    return f"{row.bytes / seconds / 1e9:.3g} GB/s" if row.bytes else ""


def _beside(row: Row, name: str) -> str:
    if name in row.errors:
        return f"[red]{row.errors[name]}[/red]"
    if name not in row.ratios:
        return ""
    return ratio(row.ratios[name])


def _beside_itself(row: Row) -> str:
    return "\n".join(
        f"{name} {ratio(row.ratios[name])}" for name in row.ratios if name not in PEERS
    )


def table(rows: Sequence[Row], peers: Sequence[Peer]) -> Any:
    """Return the rich table: a line per row, a column per peer that was there."""
    made = require("rich.table").Table()
    made.add_column("scene")
    made.add_column("voxels", justify="right")
    made.add_column("what")
    made.add_column("C", justify="right")
    made.add_column(OURS, justify="right")
    made.add_column("rate", justify="right")
    beside = [peer for peer in peers if any(_beside(row, peer.name) for row in rows)]
    for peer in beside:
        made.add_column(peer.heading or f"{peer.name} ×", justify="right")
    own = any(_beside_itself(row) for row in rows)
    if own:
        made.add_column("itself ×", justify="right")
    for row in rows:
        made.add_row(
            row.scene,
            f"{row.voxels:,}",
            row.title,
            "" if row.channels is None else str(row.channels),
            _time(row),
            _speed(row),
            *(_beside(row, peer.name) for peer in beside),
            *([_beside_itself(row)] if own else []),
        )
    return made


def _number(value: float, unit: str) -> str:
    return f"{value:.3g}{unit}"


def bars_table(verdicts: Sequence[Verdict]) -> Any:
    """Return the rich table of bars: wanted, measured over whom, limit, share of it, met or not."""
    made = require("rich.table").Table()
    made.add_column("bar")
    made.add_column("scene")
    made.add_column("C", justify="right")
    for name in ("wanted", "measured", "over", "limit here", "of limit"):
        made.add_column(name, justify="left" if name == "over" else "right")
    made.add_column("met")
    for verdict in verdicts:
        bar, figure = verdict.bar, verdict.figure
        limit = None if figure is None else figure.limit
        answer = "[green]yes[/green]" if verdict.met else "[red]no[/red]"
        answer = "[yellow]not measurable:[/yellow]" if bar.hindrance() else answer
        made.add_row(
            bar.title,
            verdict.scene,
            "" if bar.channels is None else str(bar.channels),
            ("≥ " if bar.least else "≤ ") + _number(bar.wanted, bar.unit),
            "" if figure is None else _number(figure.measured, bar.unit),
            "" if figure is None else figure.over,
            "" if limit is None else _number(limit, bar.unit),
            "" if verdict.share is None else f"{verdict.share:.2f}",
            f"{answer} {verdict.remark}".rstrip(),
        )
    return made


def _console() -> Any:
    console = require("rich.console").Console(markup=True, highlight=False)
    if not console.is_terminal:
        # a file has no edge to wrap at
        console.width = 190
    return console


def show_bars(verdicts: Sequence[Verdict], net: str) -> None:
    """Print the bars and how their limits come about on standard output."""
    console = _console()
    console.print(bars_table(verdicts))
    for line in (
        "limit here: with the operations and bytes that each layer must do and move at least, at "
        "the rates of the multiply-adds and the copy timed in the same row; for threads, what a "
        "second one gives those multiply-adds.",
        "over: the other library; of whole nets the fastest of those that gave the right result, "
        "in float32 where ours has bfloat16.",
        f"met: the bar is reached, or {CLOSE} of the limit. U-Net: {net}.",
    ):
        console.print(line, markup=False)


def bars_as_json(verdicts: Sequence[Verdict]) -> list[dict[str, object]]:
    """Return the bars as plain dicts."""
    return [
        {
            "bar": verdict.bar.title,
            "case": verdict.bar.case,
            "scene": verdict.scene,
            "channels": verdict.bar.channels,
            "wanted": verdict.bar.wanted,
            "least": verdict.bar.least,
            "measured": None if verdict.figure is None else verdict.figure.measured,
            "over": "" if verdict.figure is None else verdict.figure.over,
            "limit": None if verdict.figure is None else verdict.figure.limit,
            "share": verdict.share,
            "met": verdict.met,
            "remark": verdict.remark,
        }
        for verdict in verdicts
    ]


def notes(peers: Sequence[Peer], machine: dict[str, object], threads: int, clock: str) -> list[str]:
    """Return the lines under the table: machine, how to read it, peers, why some were missing."""
    lines = [
        f"{machine['processor']}, kernels {machine['instructions']}, torch {machine['torch']}, "
        f"{threads} thread{'s' if threads > 1 else ''}, {clock} time"
        + (", freed memory kept in the process" if machine.get("keeps_memory") else ""),
        f"{OURS}: median time. ×: how many times as long the other took in the same round, median "
        "(quartiles); above 1 we are faster.",
    ]
    for peer in peers:
        if peer.here:
            version = f" {peer.version}" if peer.version else ""
            lines.append(f"{peer.name}{version}: {peer.note}")
        else:
            lines.append(f"{peer.name}: {peer.fault}; to run it beside: {peer.pip}")
    return lines


def show(
    rows: Sequence[Row],
    peers: Sequence[Peer],
    machine: dict[str, object],
    threads: int,
    clock: str = "wall",
) -> None:
    """Print the table and its notes on standard output."""
    console = _console()
    if rows:
        console.print(table(rows, peers))
    for line in notes(peers, machine, threads, clock):
        console.print(line, markup=False)


def as_json(
    rows: Sequence[Row],
    peers: Sequence[Peer],
    machine: dict[str, object],
    threads: int,
    clock: str = "wall",
) -> dict[str, object]:
    """Return everything as plain dicts: seconds, ratios with quartiles, errors, missing peers."""
    return {
        "machine": machine,
        "threads": threads,
        "clock": clock,
        "peers": {
            peer.name: {
                "here": peer.here,
                "fault": peer.fault,
                "version": peer.version if peer.here else None,
                "pip": peer.pip,
                "threads": min(threads, peer.threads or threads),
            }
            for peer in peers
        },
        "rows": [asdict(row) for row in rows],
    }
