"""The project's own bars: what a fast CPU library must reach, and how far a machine lets it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sparseconv.bench import net_cases
from sparseconv.bench.cases import CASES
from sparseconv.bench.machine import instruction_set
from sparseconv.bench.measure import OURS, Row
from sparseconv.bench.own_cases import SMALLEST
from sparseconv.bench.peers import PEERS
from sparseconv.bench.plan import Step
from sparseconv.bench.yardsticks import BYTES, FLOPS

CLOSE = 0.85
# a limit that is beaten by more was no limit: others disturbed the yardsticks
BEYOND = 1.05
# two threads that speed up multiply-adds by less than this had no two cores
SECOND_CORE = 1.6
LARGEST = "street-2M"
YARDSTICKS = ("mm", FLOPS, BYTES)


@dataclass(frozen=True)
class Figure:
    """What was measured, and the best the machine could have given.

    Attributes:
        measured: in the unit of the bar.
        limit: the same at the rates of the yardsticks in the same row; None where none is known.
        over: the library it is a ratio to, where it is one.
    """

    measured: float
    limit: float | None
    over: str = ""


@dataclass(frozen=True)
class Bar:
    """One line to reach.

    Attributes:
        title: what is measured.
        case: name of the case.
        channels: C, or None.
        wanted: number to reach.
        read: takes the figure from a row; None where the row lacks what it needs.
        least: whether `wanted` is a least number, not a greatest one.
        unit: shown behind numbers.
        threads: of ours.
        scene: the one it is measured on; those of the run if none.
        hindrance: why this machine cannot measure it; empty if it can.
    """

    title: str
    case: str
    channels: int | None
    wanted: float
    read: Callable[[Row], Figure | None]
    least: bool = True
    unit: str = "×"
    threads: int = 1
    scene: str = ""
    hindrance: Callable[[], str] = str


@dataclass(frozen=True)
class Verdict:
    """A bar against a row.

    Attributes:
        bar: what was wanted.
        scene: where.
        figure: what was measured; None if nothing was.
        share: of the limit that was reached, at most 1 but for noise; None where no limit is known.
        met: whether it counts: the bar is reached, or 0.85 of the limit, which is not beaten.
        remark: why nothing was measured, or why it does not count.
    """

    bar: Bar
    scene: str
    figure: Figure | None
    share: float | None
    met: bool
    remark: str


def _rivals(row: Row) -> list[str]:
    """Return the other libraries in a row: neither yardsticks nor ways of our own."""
    return [name for name in row.ratios if name in PEERS and name not in YARDSTICKS]


def _over(row: Row, name: str) -> Figure:
    """Time of another library over ours; at the limit, over the floor."""
    limit = row.seconds[name].median / row.floor if row.floor else None
    return Figure(row.ratios[name].median, limit, name)


def _over_spconv(row: Row) -> Figure | None:
    """Single layers are held against spconv, whoever else runs beside."""
    return _over(row, "spconv") if "spconv" in row.ratios else None


def _over_fastest(row: Row) -> Figure | None:
    """Whole nets are held against the fastest library whose result is right."""
    rivals = _rivals(row)
    if not rivals:
        return None
    return _over(row, min(rivals, key=lambda name: row.ratios[name].median))


def _over_own(name: str) -> Callable[[Row], Figure | None]:
    def read(row: Row) -> Figure | None:
        if name not in row.ratios:
            return None
        limit = row.seconds[name].median / row.floor if row.floor else None
        return Figure(row.ratios[name].median, limit)

    return read


def _under_own(name: str) -> Callable[[Row], Figure | None]:
    def read(row: Row) -> Figure | None:
        return Figure(1 / row.ratios[name].median, 1.0) if name in row.ratios else None

    return read


def _share(name: str) -> Callable[[Row], Figure | None]:
    def read(row: Row) -> Figure | None:
        if name not in row.ratios or not row.floor:
            return None
        return Figure(row.ratios[name].median, row.seconds[name].median / row.floor)

    return read


def _per_voxel(row: Row) -> Figure | None:
    limit = row.floor / row.voxels * 1e9 if row.floor else None
    return Figure(row.seconds[OURS].median / row.voxels * 1e9, limit)


def _two_threads(row: Row) -> Figure | None:
    one = row.seconds.get("1 thread's fma")
    if "1 thread" not in row.ratios or one is None or FLOPS not in row.seconds:
        return None
    return Figure(row.ratios["1 thread"].median, one.median / row.seconds[FLOPS].median)


def _memory(row: Row) -> Figure | None:
    return Figure(row.values["peak"] / row.values["needed"], 1.0) if row.values else None


def _microseconds(row: Row) -> Figure | None:
    return Figure(row.seconds[OURS].median * 1e6, None)


def _without_amx() -> str:
    return "" if instruction_set() == "amx" else "no AMX here"


def _without_second_core() -> str:
    return "" if (os.cpu_count() or 1) > 1 else "one core here"


def _bars() -> Iterator[Bar]:
    yield Bar("3³ rulebook, shuffled", "rulebook-shuffled", None, 10, _over_spconv)
    for case, rows in (("unet-rulebooks", ""), ("unet-rulebooks-shuffled", ", shuffled")):
        yield Bar(f"U-Net rulebooks{rows}", case, None, 20, _over_spconv)
        yield Bar(
            f"U-Net rulebooks{rows}, a voxel", case, None, 80, _per_voxel, least=False, unit=" ns"
        )
    for channels, wanted in ((32, 3), (64, 3), (128, 2.8)):
        yield Bar("forward", "conv", channels, wanted, _over_spconv)
    for title, case, wanted in (
        ("forward", "conv", 0.6),
        ("input gradient", "input-gradient", 0.55),
        ("weight gradient", "weight-gradient", 0.45),
    ):
        for channels in (64, 128):
            yield Bar(f"{title}, of the FMA peak", case, channels, wanted, _share(FLOPS), unit="")
    for channels, wanted in ((64, 2.5), (128, 3.5)):
        yield Bar(
            "bfloat16 with AMX over float32",
            "conv-bfloat16",
            channels,
            wanted,
            _over_own("float32"),
            hindrance=_without_amx,
        )
    yield Bar("depthwise, of a copy", "depthwise", 64, 0.5, _share(BYTES), unit="")
    yield Bar(
        "shuffled rows over ordered", "shuffled", 64, 1.3, _under_own("in order"), least=False
    )
    yield Bar(
        "2 threads over 1",
        "threads",
        64,
        1.8,
        _two_threads,
        threads=2,
        hindrance=_without_second_core,
    )
    yield Bar(
        "a voxel at 2M over one at 50k",
        "scale",
        None,
        1.2,
        _under_own(SMALLEST),
        least=False,
        scene=LARGEST,
    )
    yield Bar(
        "call of a layer, 100 voxels",
        "overhead",
        None,
        60,
        _microseconds,
        least=False,
        unit=" µs",
        scene="few",
    )
    yield Bar("peak memory over needed", "memory", None, 1.3, _memory, least=False)
    for case, title, wanted in (
        ("unet", "forward", 3),
        ("fused", "forward, fused", 3),
        ("unet-bfloat16", "forward, bfloat16", 7),
        ("fused-bfloat16", "forward, fused, bfloat16", 7),
        ("training", "training step", 2.8),
        ("training-bfloat16", "training step, bfloat16", 6),
    ):
        yield Bar(f"U-Net {title}", case, None, wanted, _over_fastest, threads=2)


BARS = tuple(_bars())


def bar_steps(scenes: Sequence[str]) -> list[Step]:
    """Return the rows the bars need, each once: layers scene by scene, whole nets at the end."""
    steps: dict[Step, None] = {}
    for bar in BARS:
        if bar.hindrance() and bar.case == "threads":
            continue
        for scene in (bar.scene,) if bar.scene else scenes:
            steps[Step(CASES[bar.case], scene, bar.channels, bar.threads)] = None
    places = [*scenes, *(bar.scene for bar in BARS if bar.scene)]

    def turn(step: Step) -> tuple[bool, int]:
        whole = step.case in net_cases.CASES
        return whole, places.index(step.scene)

    return sorted(steps, key=turn)


def judge(rows: Iterable[Row], scenes: Sequence[str]) -> list[Verdict]:
    """Hold rows against the bars.

    Args:
        rows: those that were measured; a bar whose row is missing is left out.
        scenes: of the run.
    """
    found = {(row.case, row.channels, row.scene): row for row in rows}
    verdicts = []
    for bar in BARS:
        for scene in (bar.scene,) if bar.scene else scenes:
            row = found.get((bar.case, bar.channels, scene))
            if row is not None or bar.hindrance():
                verdicts.append(_verdict(bar, scene, row))
    return verdicts


def _verdict(bar: Bar, scene: str, row: Row | None) -> Verdict:
    figure = None if row is None or row.errors.get(OURS) else bar.read(row)
    remark = bar.hindrance()
    if not remark and bar.case == "threads" and figure is not None and figure.limit < SECOND_CORE:
        remark = "other programs held the second core"
        return Verdict(bar, scene, figure, figure.measured / figure.limit, False, remark)
    if figure is None:
        faults = "; ".join(row.errors.values()) if row is not None else ""
        whom = "no spconv here" if bar.read is _over_spconv else "no peer here"
        return Verdict(bar, scene, None, None, False, remark or faults or whom)
    share = None
    if figure.limit:
        share = figure.measured / figure.limit if bar.least else figure.limit / figure.measured
    if remark:
        return Verdict(bar, scene, figure, share, False, remark)
    reached = figure.measured >= bar.wanted if bar.least else figure.measured <= bar.wanted
    close = share is not None and CLOSE <= share <= BEYOND
    remark = "by the limit" if close and not reached else ""
    return Verdict(bar, scene, figure, share, reached or close, remark)
