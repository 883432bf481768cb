"""Compare results, then time in turns: A B C, A B C, ..."""

from __future__ import annotations

import gc
import math
import statistics
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparseconv.bench.memory import can_measure, peak_memory
from sparseconv.bench.ours import JOBS
from sparseconv.bench.peers import Peer
from sparseconv.bench.problem import Job, Problem
from sparseconv.bench.yardsticks import BYTES, FLOPS
from sparseconv.tensor.sparse_tensor import SparseTensor

OURS = "sparseconv"
LEAST_ROUNDS = 3
SHORTEST = 0.005
SHORT_TRIES = 10
LONGEST_SETTLING = 0.2
# how long threads are watched at a time, the share of a core below which they sleep, and for how
# long they are waited for, seconds
WATCH, ASLEEP, LONGEST_REST = 0.01, 0.2, 1.0


@dataclass(frozen=True)
class Quartiles:
    """Median and quartiles of a sample."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Quartiles:
        """Return those of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)


@dataclass
class Row:
    """One line of the table.

    Attributes:
        scene: its name.
        case: name of the case.
        title: what is timed.
        channels: C, or None where the case has no such width.
        voxels: rows N.
        flops: of the pairs, 0 where there are none.
        bytes: that must be read or written once, 0 where they are not counted.
        threads: of ours.
        clock: `"wall"` or `"cpu"`.
        rounds: how often each contender was timed.
        seconds: each contender's time, by name.
        ratios: each peer's time over ours, round by round.
        errors: why a peer was not timed, by name.
        busy: processor time over wall time of ours, median: the threads that really worked, less
            where other programs held the processor.
        floor: seconds that the counted operations and bytes take at the rates of the yardsticks in
            this row; None where they were not timed.
        values: figures that are not times, by name.
    """

    scene: str
    case: str
    title: str
    channels: int | None
    voxels: int
    flops: int
    bytes: int = 0
    threads: int = 1
    clock: str = "wall"
    rounds: int = 0
    seconds: dict[str, Quartiles] = field(default_factory=dict)
    ratios: dict[str, Quartiles] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    busy: float = 0.0
    floor: float | None = None
    values: dict[str, float] = field(default_factory=dict)


def difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> tuple[str, float]:
    """Return the part of a result that differs most, and by how much.

    Integers must be equal. Floats are compared by the largest difference over the largest number
    of the part; infinity stands for another shape, other parts, or a NaN.
    """
    if ours.keys() != theirs.keys():
        return ", ".join(sorted(ours.keys() ^ theirs.keys())), math.inf
    worst = ("", 0.0)
    for name, a in ours.items():
        b = theirs[name]
        if a.shape != b.shape:
            return f"shape of {name}", math.inf
        if not a.numel():
            continue
        if not a.is_floating_point():
            gap = 0.0 if torch.equal(a.long(), b.long()) else math.inf
        else:
            scale = float(a.abs().max())
            gap = float((a - b).abs().max()) / (scale or 1.0)
            gap = math.inf if math.isnan(gap) else gap
        if gap > worst[1]:
            worst = (name, gap)
    return worst


def _only(parts: tuple[str, ...], result: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: result[name] for name in parts or result}


def _timed(job: Job, times: int, threads: int) -> tuple[float, float]:
    """Return seconds for the work of the row, wall and processor."""
    torch.set_num_threads(threads)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        job.run()
    cpu_end, wall_end = time.process_time(), time.perf_counter()
    work = times * job.part
    return (wall_end - wall) / work, (cpu_end - cpu) / work


def _alone(job: Job, threads: int) -> float:
    """Return seconds of one call; the least of some where short, for any may be interrupted."""
    taken: list[float] = []
    while len(taken) < SHORT_TRIES and sum(taken) < SHORT_TRIES * SHORTEST:
        taken.append(_timed(job, 1, threads)[0] * job.part)
    return min(taken)


def _rest() -> None:
    """Wait until no thread of this process works, but not longer than a second."""
    end = time.perf_counter() + LONGEST_REST
    while time.perf_counter() < end:
        wall, cpu = time.perf_counter(), time.process_time()
        time.sleep(WATCH)
        if time.process_time() - cpu < ASLEEP * (time.perf_counter() - wall):
            return


def _contenders(
    row: Row,
    problem: Problem,
    kind: str,
    peers: list[Peer],
    threads: int,
    tolerance: float,
    parts: tuple[str, ...],
) -> tuple[dict[str, Job], dict[str, int]]:
    """Prepare ours and every peer whose result is ours; note the others in `row.errors`."""
    torch.set_num_threads(threads)
    ours = JOBS[kind](problem)
    expected = _only(parts, ours.read(ours.run()))
    jobs, allowed = {OURS: ours}, {OURS: threads}
    for peer in peers:
        if kind not in peer.jobs or not peer.here:
            continue
        allowed[peer.name] = min(threads, peer.threads or threads)
        torch.set_num_threads(allowed[peer.name])
        try:
            job = peer.jobs[kind](problem)
            if job is None:
                continue
            found = job.read(job.run())
        except Exception as error:
            row.errors[peer.name] = f"failed: {type(error).__name__}: {error}"
            continue
        part, gap = difference(expected, _only(parts, found)) if peer.compares else ("", 0.0)
        if gap > tolerance:
            row.errors[peer.name] = f"results differ: {part} by {gap:.1e} (allowed {tolerance:.0e})"
            continue
        jobs[peer.name] = job
    return jobs, allowed


def watch(row: Row, problem: Problem, threads: int) -> Row:
    """Fill a row with the peak memory of a training step, bytes, and what such a step must hold."""
    row.threads = threads
    torch.set_num_threads(threads)
    if can_measure():
        x = SparseTensor(problem.coords, problem.features)
        found = peak_memory(problem.layer, x, problem.labels)
        row.values = {"peak": found.peak, "needed": found.needed, "rows": found.rows}
    else:
        row.errors[OURS] = "this system does not tell a process its peak memory"
    return row


def measure(
    row: Row,
    problem: Problem,
    kind: str,
    peers: list[Peer],
    *,
    threads: int = 1,
    repeat: int = 15,
    seconds: float = 10.0,
    tolerance: float = 1e-4,
    parts: tuple[str, ...] = (),
    clock: str = "wall",
) -> Row:
    """Fill a row: check that results agree, then time all contenders in turns.

    Args:
        row: takes the figures.
        problem: inputs.
        kind: which job of each contender.
        peers: those to run beside ours; a peer without such a job, or not installed, is left out.
        threads: of ours, and of the peers that allow as many.
        repeat: rounds, each timing every contender once.
        seconds: stop after the round in which this has passed, but not before three.
        tolerance: see `Case`.
        parts: see `Case`.
        clock: `"wall"`, or `"cpu"` for the processor time of this process, which other programs on
            the machine disturb less; for one thread only.

    Returns:
        `row`.
    """
    row.threads, row.clock = threads, clock
    jobs, allowed = _contenders(row, problem, kind, peers, threads, tolerance, parts)
    first, times = {}, {}
    for name, job in jobs.items():
        first[name] = _alone(job, allowed[name])
        times[name] = max(1, math.ceil(SHORTEST / max(first[name], 1e-7)))
    lingers = {peer.name for peer in peers if peer.lingers}
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    busy: list[float] = []
    begin = time.perf_counter()
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        while row.rounds < repeat:
            if row.rounds >= LEAST_ROUNDS and time.perf_counter() - begin > seconds:
                break
            for name, job in jobs.items():
                took, worked = _timed(job, times[name], allowed[name])
                taken[name].append(worked if clock == "cpu" else took)
                if name == OURS:
                    busy.append(worked / took)
                elif name == BYTES and first[OURS] < LONGEST_SETTLING:
                    # the copy has emptied the caches: fill them as any other neighbour leaves them
                    jobs[OURS].run()
                if name in lingers:
                    _rest()
            row.rounds += 1
    finally:
        if collecting:
            gc.enable()
    row.seconds = {name: Quartiles.of(values) for name, values in taken.items()}
    row.busy = statistics.median(busy)
    for name, values in taken.items():
        if name != OURS:
            pairs = zip(values, taken[OURS], strict=True)
            row.ratios[name] = Quartiles.of([theirs / ours for theirs, ours in pairs])
    if problem.flops and FLOPS in row.seconds and BYTES in row.seconds:
        flops_rate = problem.flops / row.seconds[FLOPS].median
        row.floor = problem.floor(flops_rate, problem.bytes / row.seconds[BYTES].median)
    elif BYTES in row.seconds:
        row.floor = row.seconds[BYTES].median
    return row
