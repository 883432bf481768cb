"""What the machine can do at most: multiply-adds in registers, a copy, a dense matrix product."""

from __future__ import annotations

from functools import cache, lru_cache
from time import perf_counter

import torch
from torch import Tensor

from sparseconv.bench.problem import Job, Problem

# names of the yardsticks whose rates give a row its floor
FLOPS, BYTES = "fma", "copy"
CHUNK = 32_768
COPIED = 128 << 20
SHORTEST_FLOPS, LONGEST_FLOPS = 1 << 30, 1 << 33
CODES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
# a product of 16-bit numbers that takes this many times that of float32 has no instructions
CRAWL = 4


def multiply_adds(problem: Problem) -> Job | None:
    """Return multiply-adds that never leave the registers, as many as the row has operations."""
    if not problem.flops or problem.dtype not in CODES:
        return None
    from sparseconv import _native

    wanted = min(max(problem.flops, SHORTEST_FLOPS), LONGEST_FLOPS)
    code = CODES[problem.dtype]
    done = _native.multiply_adds(code, wanted, 1)

    def run() -> None:
        _native.multiply_adds(code, wanted, torch.get_num_threads())

    return Job(run, lambda _: {}, done / problem.flops)


@lru_cache(maxsize=1)
def _memory() -> tuple[Tensor, Tensor]:
    return torch.ones(COPIED, dtype=torch.uint8), torch.zeros(COPIED, dtype=torch.uint8)


def copy(problem: Problem) -> Job | None:
    """Return a copy in memory beyond any cache; what is read and what is written both count."""
    if not problem.bytes:
        return None
    from sparseconv import _native

    source, target = _memory()

    def run() -> None:
        threads = torch.get_num_threads()
        _native.copy_bytes(source.data_ptr(), target.data_ptr(), COPIED, threads)

    return Job(run, lambda _: {}, 2 * COPIED / problem.bytes)


@cache
def crawls(dtype: torch.dtype) -> bool:
    """Return whether torch multiplies a type without instructions for it: a row takes minutes."""

    def least(of: torch.dtype) -> float:
        square, taken = torch.ones(256, 256, dtype=of), []
        for _ in range(3):
            begin = perf_counter()
            torch.mm(square, square)
            taken.append(perf_counter() - begin)
        return min(taken)

    return dtype.itemsize < torch.float32.itemsize and least(dtype) > CRAWL * least(torch.float32)


def products(problem: Problem) -> Job | None:
    """Return dense products of the same operations: no gather, no scatter, no index.

    None in a type that torch crawls through on this machine.
    """
    if not problem.flops or crawls(problem.dtype):
        return None
    calls: list[tuple[Tensor, Tensor, Tensor]] = []
    for rows, channels, width, _ in problem.products:
        left, right = torch.randn(min(rows, CHUNK), channels), torch.randn(channels, width)
        left, right = left.to(problem.dtype), right.to(problem.dtype)
        out = left.new_empty(len(left), width)
        parts = [CHUNK] * (rows // CHUNK) + [rows % CHUNK]
        for size in parts * problem.passes:
            calls.append((left[:size], right, out[:size]))

    @torch.no_grad()
    def run() -> None:
        for left, right, out in calls:
            torch.mm(left, right, out=out)

    return Job(run, lambda _: {})
