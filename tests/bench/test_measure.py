import itertools
import math

import pytest
import torch

from sparseconv.backends import native_available
from sparseconv.bench.cases import CASES
from sparseconv.bench.measure import OURS, Quartiles, Row, difference, measure
from sparseconv.bench.ours import JOBS
from sparseconv.bench.peers import Peer, choose
from sparseconv.bench.problem import Job
from sparseconv.bench.scenes import load_scene


@pytest.fixture(scope="module")
def problem():
    return CASES["conv"].prepare(load_scene("sheet"), 4, "small")


def empty_row(problem):
    return Row("sheet", "conv", "title", 4, len(problem.coords), problem.flops)


def test_difference_is_relative_to_the_largest_number():
    a = {"y": torch.tensor([1.0, -10.0])}
    assert difference(a, {"y": torch.tensor([1.5, -10.0])}) == ("y", pytest.approx(0.05))
    assert difference(a, {"y": a["y"].clone()}) == ("", 0.0)


@pytest.mark.parametrize(
    "other",
    [
        {"y": torch.tensor([1.0, math.nan])},
        {"y": torch.tensor([1.0])},
        {"z": torch.tensor([1.0, 2.0])},
        {"y": torch.tensor([1.0, 2.0]), "z": torch.tensor([0])},
    ],
    ids=["nan", "shape", "name", "more"],
)
def test_difference_without_a_number_is_infinite(other):
    assert difference({"y": torch.tensor([1.0, 2.0])}, other)[1] == math.inf


def test_integers_must_be_equal():
    rows = {"pairs": torch.tensor([1, 2, 3])}
    assert difference(rows, {"pairs": torch.tensor([1, 2, 3], dtype=torch.int32)})[1] == 0
    assert difference(rows, {"pairs": torch.tensor([1, 2, 4])})[1] == math.inf


def test_quartiles():
    assert Quartiles.of([4.0, 1.0, 3.0, 2.0, 5.0]) == Quartiles(2.0, 3.0, 4.0)
    assert Quartiles.of([7.0]) == Quartiles(7.0, 7.0, 7.0)


def test_a_peer_with_wrong_results_is_reported_and_not_timed(problem):
    calls = []

    def wrong(problem):
        job = JOBS["conv"](problem)

        def run():
            calls.append(1)
            y = job.run().clone()
            y[17] += 0.01 * y.abs().max()
            return y

        return Job(run, job.read)

    row = measure(
        empty_row(problem), problem, "conv", [Peer("fake", "", {"conv": wrong})], repeat=3
    )
    assert "results differ: features by 1.0e-02" in row.errors["fake"]
    assert len(calls) == 1
    assert "fake" not in row.ratios and "fake" not in row.seconds
    assert row.seconds[OURS].median > 0


def test_only_the_parts_named_are_compared(problem):
    def more(problem):
        job = JOBS["conv"](problem)
        return Job(job.run, lambda y: {**job.read(y), "more": torch.ones(1)})

    peers = [Peer("fake", "", {"conv": more})]
    row = measure(empty_row(problem), problem, "conv", peers, repeat=3)
    assert "more" in row.errors["fake"]
    row = measure(empty_row(problem), problem, "conv", peers, repeat=3, parts=("features",))
    assert row.ratios["fake"].median > 0


def test_a_peer_that_raises_is_reported(problem):
    def broken(problem):
        raise RuntimeError("no such kernel")

    row = measure(
        empty_row(problem), problem, "conv", [Peer("fake", "", {"conv": broken})], repeat=3
    )
    assert row.errors["fake"] == "failed: RuntimeError: no such kernel"


def test_a_part_of_the_work_counts_as_all_of_it(problem):
    def partly(problem):
        job = JOBS["conv"](problem)
        return Job(job.run, job.read, 1 / 1000)

    peers = [Peer("part", "", {"conv": partly}), Peer("none", "", {"conv": lambda problem: None})]
    row = measure(empty_row(problem), problem, "conv", peers, repeat=3)
    assert row.ratios["part"].median > 50
    assert "none" not in row.ratios and not row.errors


@pytest.mark.skipif(not native_available(), reason="needs the compiled module")
def test_the_floor_is_taken_from_the_yardsticks_of_the_row(problem):
    row = measure(empty_row(problem), problem, "conv", choose("fma,copy"), repeat=3, seconds=1)
    fma, copied = (row.seconds[name].median for name in ("fma", "copy"))
    assert row.floor == pytest.approx(max(fma, copied))
    assert row.ratios["fma"].median < 1
    assert measure(empty_row(problem), problem, "conv", [], repeat=3).floor is None


def test_contenders_take_turns(problem):
    order = []

    def named(name, kind):
        def make(problem):
            job = JOBS[kind](problem)

            def run():
                order.append(name)
                return job.run()

            return Job(run, job.read)

        return make

    peers = [Peer(name, "", {"conv": named(name, "conv")}) for name in ("a", "b")]
    row = measure(empty_row(problem), problem, "conv", peers, repeat=4, seconds=60)
    turns = [name for name, _ in itertools.groupby(order)]
    # compared once, tried once, then four rounds
    assert turns == ["a", "b"] * 6
    assert row.rounds == 4
    assert set(row.ratios) == {"a", "b"}


class FakeTime:
    """A clock that sleeping moves, and looking at it a little; a thread works until some moment."""

    def __init__(self) -> None:
        self.wall = self.worked = self.until = 0.0

    def sleep(self, seconds: float) -> None:
        self.worked += min(seconds, max(0.0, self.until - self.wall))
        self.wall += seconds

    def perf_counter(self) -> float:
        self.wall += 1e-3
        return self.wall

    def process_time(self) -> float:
        return self.worked


@pytest.mark.parametrize(("works", "waited"), [(0.09, 0.1), (math.inf, 1.0)])
def test_who_lingers_is_waited_for(problem, monkeypatch, works, waited):
    clock, order = FakeTime(), []
    monkeypatch.setattr("sparseconv.bench.measure.time", clock)

    def named(name):
        def run(job):
            order.append((name, clock.wall))
            clock.until = clock.wall + (works if name == "a" else 0)
            return job.run()

        def make(problem):
            job = JOBS["conv"](problem)
            return Job(lambda: run(job), job.read)

        return make

    peers = [
        Peer("a", "", {"conv": named("a")}, lingers=True),
        Peer("b", "", {"conv": named("b")}),
    ]
    measure(empty_row(problem), problem, "conv", peers, repeat=3, seconds=60)
    turns = [list(turn) for _, turn in itertools.groupby(order, key=lambda call: call[0])]
    # compared once, tried once, then three rounds; who comes next finds it asleep, or has waited
    for mine, others in itertools.pairwise(turns[4:]):
        if mine[0][0] == "a":
            assert others[0][1] == pytest.approx(mine[-1][1] + waited, abs=0.03)
    assert len(turns) == 10


def test_time_runs_out_only_after_three_rounds(problem):
    row = measure(empty_row(problem), problem, "conv", [], repeat=50, seconds=1e-9)
    assert row.rounds == 3


def test_a_peer_keeps_to_its_threads(problem):
    seen = []

    def make(problem):
        job = JOBS["conv"](problem)

        def run():
            seen.append(torch.get_num_threads())
            return job.run()

        return Job(run, job.read)

    before = torch.get_num_threads()
    peer = Peer("fake", "", {"conv": make}, threads=1)
    try:
        measure(empty_row(problem), problem, "conv", [peer], threads=2, repeat=3)
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}
