"""spconv's CPU path: the same sites, features and weights in its own layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from sparseconv.bench.engines.engine import Engine
from sparseconv.bench.engines.jobs import JobMaker, engine_jobs
from sparseconv.bench.ours import LEVELS
from sparseconv.bench.problem import Job, Problem, ordered_pairs, pairs_by_site
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.conv.submanifold import SubMConv3d

# its CPU index numbers the cells of a box in 32 bits: sites so many cells apart are one to it
MOST_CELLS = 1 << 32


@cache
def load():
    """Import spconv; where torch has several threads, its scatter still gets one.

    Its CPU scatter shares two loop pointers between its threads and adds rows to the wrong places
    whenever more than one runs. Beside torch it runs on torch's OpenMP runtime, whatever its wheel
    brings along, so that `torch.set_num_threads` reaches it. Several threads therefore take its own
    loop in Python over gather, `torch.mm` and scatter, not the same loop in C++: there one thread
    can be asked for around the scatter alone. Its CPU backward asks torch for a CUDA stream that it
    never uses; where torch has no CUDA that raises, so it is given none.
    """
    import spconv.pytorch as spconv
    from spconv.pytorch import ops

    if not torch.cuda.is_available():
        ops.get_current_stream = lambda: 0

    theirs = ops.SpconvOps

    class Held(theirs):
        @staticmethod
        def scatter_add_cpu(*arguments: object) -> None:
            with _threads(1):
                theirs.scatter_add_cpu(*arguments)

    ops.SpconvOps = Held
    for name in ("indice_conv", "indice_conv_backward"):
        setattr(ops, name, _in_its_loop(ops, getattr(ops, name)))
    return spconv


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_its_loop(ops: ModuleType, convolve: Callable) -> Callable:
    @wraps(convolve)
    def call(*arguments: object, **options: object) -> object:
        ops.SPCONV_CPP_GEMM = torch.get_num_threads() == 1
        return convolve(*arguments, **options)

    return call


def _tensor(problem: Problem, features: Tensor) -> Any:
    return load().SparseConvTensor(features, problem.coords, problem.scene.extent, 1)


def _layer(layer: Convolution, key: str) -> nn.Module:
    spconv = load()
    size, channels = list(layer.kernel_size), (layer.in_channels, layer.out_channels)
    native = {"bias": False, "indice_key": key, "algo": spconv.ConvAlgo.Native}
    if layer.transposed:
        return spconv.SparseInverseConv3d(*channels, size, **native)
    if isinstance(layer, SubMConv3d):
        return spconv.SubMConv3d(*channels, size, **native)
    return spconv.SparseConv3d(*channels, size, list(layer.stride), **native)


def _keep(x: Any, y: Any) -> None:
    x.indice_dict = y.indice_dict


def engine() -> Engine:
    """Return how spconv makes tensors and layers."""
    load()
    return Engine(
        tensor=_tensor,
        layer=_layer,
        weight="weight",
        # [D, kx, ky, kz, C]
        pack=lambda taps: taps.permute(4, 0, 1, 2, 3),
        unpack=lambda weight, size: weight.permute(1, 2, 3, 4, 0),
        rows=lambda x: x.features,
        with_rows=lambda x, rows: x.replace_feature(rows),
        coords=lambda x: x.indices,
        keep=_keep,
    )


Found = tuple[Tensor, Tensor, Tensor]


def _find_pairs(coords: Tensor, extent: list[int], size: int, stride: int, subm: bool) -> Found:
    """Return output sites, [2, K, N] pairs and their counts."""
    from spconv.pytorch import ops

    one, zero = [1, 1, 1], [0, 0, 0]
    return ops.get_indice_pairs(
        coords,
        1,
        extent,
        load().ConvAlgo.Native,
        [size] * 3,
        [stride] * 3,
        zero,
        one,
        zero,
        subm=subm,
    )


def _all_pairs(found: Found, subm: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return input rows, output rows and taps of every pair, the implied ones included."""
    sites, (in_rows, out_rows), counts = found
    taps, half = len(counts), len(counts) // 2
    if not subm:
        lists = [(in_rows[t, :n], out_rows[t, :n], t) for t, n in enumerate(counts.tolist())]
    else:
        rows = torch.arange(len(sites))
        # the pairs of the centre are implied, those after it are the first half's turned round
        lists = [(rows, rows, half)]
        for tap, count in enumerate(counts[:half].tolist()):
            i, o = in_rows[tap, :count], out_rows[tap, :count]
            lists += [(i, o, tap), (o, i, taps - 1 - tap)]
    parts = [(i.long(), o.long(), torch.full((len(i),), tap)) for i, o, tap in lists]
    i, o, tap = (torch.cat(column) for column in zip(*parts, strict=True))
    return i, o, tap


def _rulebook_job(problem: Problem) -> Job:
    extent = problem.scene.extent

    def run() -> Found:
        return _find_pairs(problem.coords, extent, 3, 1, True)

    return Job(run, lambda found: {"pairs": ordered_pairs(*_all_pairs(found, True))})


def _unet_rulebooks_job(problem: Problem) -> Job:
    extents = [[size >> level for size in problem.scene.extent] for level in range(LEVELS)]

    def run() -> list[tuple[Tensor, Found, bool]]:
        coords, steps = problem.coords, []
        for level, extent in enumerate(extents):
            steps.append((coords, _find_pairs(coords, extent, 3, 1, True), True))
            if level < LEVELS - 1:
                steps.append((coords, _find_pairs(coords, extent, 2, 2, False), False))
                coords = steps[-1][1][0]
        return steps

    def read(steps: list[tuple[Tensor, Found, bool]]) -> dict[str, Tensor]:
        return {
            f"pairs {number}": pairs_by_site(source, found[0], *_all_pairs(found, subm))
            for number, (source, found, subm) in enumerate(steps)
        }

    return Job(run, read)


def _where_right(make: JobMaker) -> JobMaker:
    """Leave out scans in whose box it would pair sites that are not neighbours."""

    def maker(problem: Problem) -> Job | None:
        return make(problem) if math.prod(problem.scene.extent) <= MOST_CELLS else None

    return maker


_MAKERS: dict[str, JobMaker] = {
    "rulebook": _rulebook_job,
    "unet-rulebooks": _unet_rulebooks_job,
    **engine_jobs(engine),
}
JOBS = {kind: _where_right(make) for kind, make in _MAKERS.items()}
