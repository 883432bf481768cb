"""This library beside itself: another order of rows, dtype, number of threads, size."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch

from sparseconv.bench.case import Case
from sparseconv.bench.layer_cases import prepare_conv
from sparseconv.bench.ours import JOBS
from sparseconv.bench.peers import Peer
from sparseconv.bench.problem import Job, Problem, Product
from sparseconv.bench.scenes import Scene, load_scene, shuffled
from sparseconv.bench.yardsticks import multiply_adds
from sparseconv.testing.tolerances import tolerance

BFLOAT16 = tolerance(torch.bfloat16, "forward")["rtol"]
SCALE_CHANNELS, OVERHEAD_CHANNELS = 32, 16
SMALLEST = "street-50k"


def another_way(name: str, note: str, kind: str, make: Callable, **options: object) -> Peer:
    """Return a way of this library to compare a case of some kind with."""
    return Peer(name, note, {kind: make}, own=True, **options)


def _bfloat16(passes: int) -> Callable[[Scene, int, str], Problem]:
    def prepare(scene: Scene, channels: int, net: str) -> Problem:
        return as_dtype(prepare_conv(passes)(scene, channels, net), torch.bfloat16)

    return prepare


def as_dtype(problem: Problem, dtype: torch.dtype) -> Problem:
    """Return the problem of one layer in another dtype."""
    layer = copy.deepcopy(problem.layer).to(dtype)
    products = tuple(
        Product.of_layer(
            p.rows, len(problem.coords), len(problem.coords), layer.weight, p.channels, p.width
        )
        for p in problem.products
    )
    return replace(
        problem,
        features=problem.features.to(dtype),
        grad=problem.grad.to(dtype),
        layer=layer,
        products=products,
        dtype=dtype,
    )


def _in_float32(kind: str) -> Peer:
    def make(problem: Problem) -> Job:
        return JOBS[kind](as_dtype(problem, torch.float32))

    return another_way("float32", "the same numbers in float32", kind, make)


def _shuffled(scene: Scene, channels: int, net: str) -> Problem:
    problem = prepare_conv(1)(scene, channels, net)
    order = torch.arange(len(scene.coords))[:, None].expand(-1, 4)
    return replace(
        problem,
        coords=shuffled(scene.coords),
        features=problem.features[shuffled(order)[:, 0]].contiguous(),
    )


def _in_order(problem: Problem) -> Job:
    order = torch.arange(len(problem.coords))[:, None].expand(-1, 4)
    back = torch.empty(len(problem.coords), dtype=torch.int64)
    back[shuffled(order)[:, 0]] = order[:, 0]
    return JOBS["conv"](
        replace(
            problem,
            coords=problem.coords[back].contiguous(),
            features=problem.features[back].contiguous(),
        )
    )


def _at_smallest(problem: Problem) -> Job:
    """Do the same on few voxels; times count as those of as many voxels as the row has."""
    small = _fixed(SCALE_CHANNELS)(load_scene(SMALLEST), 0, "")
    job = JOBS["scale"](small)
    return Job(job.run, job.read, len(small.coords) / len(problem.coords))


def _fixed(channels: int) -> Callable[[Scene, int, str], Problem]:
    def prepare(scene: Scene, _: int, net: str) -> Problem:
        return prepare_conv(1)(scene, channels, net)

    return prepare


CASES = (
    Case(
        "conv-bfloat16",
        "3³ submanifold forward, bfloat16",
        "conv",
        True,
        _bfloat16(1),
        BFLOAT16,
        (_in_float32("conv"),),
    ),
    Case(
        "gradient-bfloat16",
        "3³ forward + backward, bfloat16",
        "gradient",
        True,
        _bfloat16(3),
        BFLOAT16,
        (_in_float32("gradient"),),
    ),
    Case(
        "shuffled",
        "3³ submanifold forward, shuffled rows",
        "shuffled",
        True,
        _shuffled,
        beside=(another_way("in order", "rows as voxelize gives them", "shuffled", _in_order),),
    ),
    Case(
        "threads",
        "3³ submanifold forward, 2 threads",
        "threads",
        True,
        prepare_conv(1),
        beside=(
            another_way("1 thread", "the same on one", "threads", JOBS["threads"], threads=1),
            another_way(
                "1 thread's fma",
                "the multiply-adds on one",
                "threads",
                multiply_adds,
                threads=1,
                package="sparseconv._native",
                compares=False,
            ),
        ),
        threads=2,
    ),
    Case(
        "scale",
        f"3³ submanifold forward, C = {SCALE_CHANNELS}, by size",
        "scale",
        False,
        _fixed(SCALE_CHANNELS),
        beside=(
            another_way(
                SMALLEST, "the time of a voxel at 50,000", "scale", _at_smallest, compares=False
            ),
        ),
        scenes=("street-50k", "street-200k", "street-1M", "street-2M"),
        usual=False,
    ),
    Case(
        "overhead",
        f"a call of a 3³ layer, C = {OVERHEAD_CHANNELS}",
        "overhead",
        False,
        _fixed(OVERHEAD_CHANNELS),
        scenes=("few",),
    ),
)
