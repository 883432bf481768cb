"""Every family of convolutions beside the plain 3x3x3 submanifold one, on one scan."""

from __future__ import annotations

import gc
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sparseconv.bench.measure import Quartiles
from sparseconv.bench.memory import can_measure, grown_memory
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.cost import Cost, cost
from sparseconv.nn.families import family
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor

SHORTEST = 0.02
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class FamilyRow:
    """One family on one scan.

    Attributes:
        key: of the family.
        cost: of one call.
        forward: seconds of the forward pass while training, median.
        step: seconds of forward and backward, median.
        ratio: forward and backward over those of the plain convolution, round by round.
        memory: most memory that forward and backward took beyond what was there before (output and
            gradients included), in units of the N * C numbers of the input; None if not asked for.
        error: why it was not timed; empty if it was.
    """

    key: str
    cost: Cost | None = None
    forward: float = math.nan
    step: float = math.nan
    ratio: Quartiles | None = None
    memory: float | None = None
    error: str = ""


def scan_tensor(coords: Tensor, channels: int) -> SparseTensor:
    """Return a scan with random features; its lattice begins at 0 and ends at its last site."""
    rng = torch.Generator().manual_seed(0)
    shape = tuple((coords[:, 1:].amax(0) + 1).tolist())
    features = torch.randn(len(coords), channels, generator=rng)
    return SparseTensor(coords, features, shape, batch_size=1)


def family_layer(entry: Family, x: SparseTensor, *, stir: float = 0.05) -> nn.Module:
    """Return a layer of a family that keeps the channels of `x`, ready to train.

    Args:
        entry: the family.
        x: what it is made for.
        stir: deviation of the random numbers added to its parameters.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = entry.make(x.channels, x.channels, x.spatial_shape)
        # zeros at the start would spare some families work
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter += stir * torch.randn_like(parameter)
    return layer.train()


def _pass(layer: nn.Module, x: SparseTensor) -> tuple[float, float]:
    """Return the seconds of a forward pass and of both passes."""
    features = x.features.detach().requires_grad_()
    for parameter in layer.parameters():
        parameter.grad = None
    begin = time.perf_counter()
    y = layer(x.replace(features=features)).features
    middle = time.perf_counter()
    y.backward(torch.ones_like(y))
    return middle - begin, time.perf_counter() - begin


def _times(layer: nn.Module, x: SparseTensor, times: int) -> tuple[float, float]:
    taken = [_pass(layer, x) for _ in range(times)]
    return sum(f for f, _ in taken) / times, sum(s for _, s in taken) / times


def time_family(
    entry: Family, x: SparseTensor, *, rounds: int = 9, seconds: float = 4.0
) -> FamilyRow:
    """Time forward and backward of one family in turns with the plain convolution's.

    Rulebooks are there already; both are run with the threads torch has.

    Args:
        entry: the family.
        x: the scan.
        rounds: each times both once.
        seconds: stop after the round in which this has passed, but not before three.
    """
    plain = SubMConv3d(x.channels, x.channels, 3, bias=False).train()
    layer = family_layer(entry, x)
    counted = cost(layer.eval(), x)
    layer.train()
    often = [max(1, math.ceil(SHORTEST / max(_pass(each, x)[1], 1e-6))) for each in (plain, layer)]
    ratios, forwards, steps = [], [], []
    collecting, begin = gc.isenabled(), time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        while len(ratios) < rounds:
            if len(ratios) >= LEAST_ROUNDS and time.perf_counter() - begin > seconds:
                break
            _, usual = _times(plain, x, often[0])
            forward, step = _times(layer, x, often[1])
            ratios.append(step / usual)
            forwards.append(forward)
            steps.append(step)
    finally:
        if collecting:
            gc.enable()
    forward, step = statistics.median(forwards), statistics.median(steps)
    return FamilyRow(entry.key, counted, forward, step, Quartiles.of(ratios))


def _grown(key: str, coords: Tensor, channels: int, threads: int) -> float:
    """Return the memory of a pass in a process that has kept nothing yet."""
    torch.set_num_threads(threads)
    x = scan_tensor(coords, channels)
    layer = family_layer(family(key), x)
    # threads, code and the first blocks of an allocator are not the layer's
    few = SparseTensor(x.coords[:64], x.features[:64], x.spatial_shape, batch_size=1)
    _pass(layer, few)
    # rulebooks are shared by a net: they do not count
    with torch.no_grad():
        layer(x)
    return grown_memory(lambda: _pass(layer, x)) / (x.features.numel() * x.features.element_size())


def bench_families(
    entries: Sequence[Family],
    coords: Tensor,  # [N, 4] int32
    channels: int,
    *,
    memory: bool = False,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Iterator[FamilyRow]:
    """Yield a row for each family, as soon as it is measured.

    Args:
        entries: the families.
        coords: sites of one scan, none negative.
        channels: C in and out.
        memory: whether to measure memory too, each family in a process of its own (Linux).
        progress: called with what is done, how many, of how many.
    """
    x = scan_tensor(coords, channels)
    for done, entry in enumerate(entries):
        progress(entry.key, done, len(entries))
        try:
            row = time_family(entry, x)
            if memory and can_measure():
                # an executor says so when its process is killed, where a pool would wait
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
                    given = entry.key, coords, channels, torch.get_num_threads()
                    row = replace(row, memory=apart.submit(_grown, *given).result())
        except (ValueError, RuntimeError, TypeError, MemoryError) as error:
            row = FamilyRow(entry.key, error=" ".join(str(error).split()))
        yield row
    progress("done", len(entries), len(entries))
