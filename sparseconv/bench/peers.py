"""What the library is timed against; each is optional but the ones torch and numpy make."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv._optional import require
from sparseconv.bench import yardsticks
from sparseconv.bench.engines import minkowski, open3d, sparseconvnet, spconv
from sparseconv.bench.ours import JOBS
from sparseconv.bench.problem import Job, Problem, by_site
from sparseconv.ops._registry import use_backend

JobMaker = Callable[[Problem], Job | None]

LONGEST_FAULT = 300


@cache
def _fault(package: str) -> str:
    """Return why a module cannot be imported: one made for another torch is there, and yet is not.

    Empty where it can, `missing` where it is not installed.
    """
    try:
        importlib.import_module(package)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{package}.".startswith(f"{error.name}."):
            return "missing"
        words = " ".join(str(error).split())
        return f"cannot be imported, {type(error).__name__}: {words}"[:LONGEST_FAULT]
    return ""


@dataclass(frozen=True)
class Peer:
    """One thing to compare with.

    Attributes:
        name: as chosen on the command line and shown in the table.
        note: what it is, for the lines under the table.
        jobs: how it does a case, by kind; kinds that are not there are left out, and rows for
            which the maker returns None.
        package: module it needs, None for none beyond this library's own.
        distributions: names under which that package may have been installed.
        pip: the line that installs it.
        threads: most threads it gives right results with, None for any number.
        compares: whether its result must equal ours; not so for a yardstick.
        heading: of its column; its name and × if none.
        own: whether it is another way of this library, run along with the cases that name it.
        slow: whether it takes so long that it is run where it is named alone.
        lingers: whether its threads look out for work after its turn, and would share the cores
            with whoever comes next: that one waits until they sleep.
    """

    name: str
    note: str
    jobs: Mapping[str, JobMaker]
    package: str | None = None
    distributions: tuple[str, ...] = ()
    pip: str | None = None
    threads: int | None = None
    compares: bool = True
    heading: str = ""
    own: bool = False
    slow: bool = False
    lingers: bool = False

    @property
    def fault(self) -> str:
        """Why it cannot be run: `missing`, or what its import says; empty where it can."""
        return "" if self.package is None else _fault(self.package)

    @property
    def here(self) -> bool:
        """Whether it can be imported."""
        return not self.fault

    @property
    def version(self) -> str | None:
        """Version of its package, None where it is not installed or has none."""
        for name in self.distributions:
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return None


def _on_reference(kind: str) -> JobMaker:
    """Return our own job, run by plain torch: gather, matrix product, index_add."""

    def make(problem: Problem) -> Job | None:
        if problem.dtype != torch.float32:
            return None
        job = JOBS[kind](problem)
        # builds the rulebook, which is kept
        job.run()

        def run() -> object:
            with use_backend("reference"):
                return job.run()

        return Job(run, job.read)

    return make


def _unique(problem: Problem) -> Job:
    """Voxelise with `np.unique` and `np.bincount`."""
    scene, values = problem.scene, problem.values.numpy().astype(np.float64)

    def run() -> tuple[np.ndarray, np.ndarray]:
        sites = np.floor(scene.xyz / scene.voxel_size).astype(np.int32)
        unique, inverse, counts = np.unique(sites, axis=0, return_inverse=True, return_counts=True)
        inverse = inverse.reshape(-1)
        sums = [np.bincount(inverse, column, len(unique)) for column in values.T]
        return unique, (np.stack(sums, 1) / counts[:, None]).astype(np.float32)

    def read(found: tuple[np.ndarray, np.ndarray]) -> dict[str, Tensor]:
        unique, means = (torch.from_numpy(part) for part in found)
        coords = torch.cat([torch.zeros_like(unique[:, :1]), unique], 1)
        return by_site(coords, means)

    return Job(run, read)


def _downsample(problem: Problem) -> Job:
    """Voxelise with Open3D's tensor point cloud."""
    open3d = require("open3d", extra="io")
    scene = problem.scene
    cloud = open3d.t.geometry.PointCloud(open3d.core.Tensor(scene.xyz))
    cloud.point["numbers"] = open3d.core.Tensor(problem.values.numpy())

    def run() -> object:
        return cloud.voxel_down_sample(scene.voxel_size)

    def read(found: object) -> dict[str, Tensor]:
        # its means are rounded to float32, which may leave the voxel: let each carry its site
        marked = cloud.clone()
        marked.point["site"] = open3d.core.Tensor(np.floor(scene.xyz / scene.voxel_size))
        again = marked.voxel_down_sample(scene.voxel_size)
        if len(again.point.positions) != len(found.point.positions):
            raise RuntimeError("two calls gave different numbers of voxels")
        sites = np.rint(again.point["site"].numpy()).astype(np.int32)
        coords = torch.from_numpy(np.pad(sites, ((0, 0), (1, 0))))
        return by_site(coords, torch.from_numpy(again.point["numbers"].numpy()))

    return Job(run, read)


KINDS = tuple(JOBS)

PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "spconv",
            "its CPU path (Native), float32; its scatter always on one thread, since with two its "
            "results are wrong, its matrix products on as many as ours; not run where the box of a "
            "scan has more than 2³² cells, in which it pairs sites that are far apart",
            spconv.JOBS,
            package="spconv.pytorch",
            distributions=("spconv",),
            pip='pip install "spconv==2.3.8" "cumm<0.8"',
        ),
        Peer(
            "sparseconvnet",
            "its CPU path, float32",
            sparseconvnet.JOBS,
            package="sparseconvnet",
            distributions=("sparseconvnet",),
            pip="pip install pillow setuptools; pip install --no-build-isolation "
            "git+https://github.com/facebookresearch/SparseConvNet",
        ),
        Peer(
            "minkowski",
            "MinkowskiEngine's CPU path, float32",
            minkowski.JOBS,
            package="MinkowskiEngine",
            distributions=("MinkowskiEngine",),
            pip="build https://github.com/NVIDIA/MinkowskiEngine with --cpu_only",
            # OpenBLAS's, some 90 ms
            lingers=True,
        ),
        Peer(
            "open3d-ml",
            "open3d.ml.torch's SparseConv, which searches neighbours anew in every layer",
            open3d.JOBS,
            package="open3d.ml.torch",
            distributions=("open3d", "open3d-cpu"),
            pip="an Open3D built for this version of torch: pip install open3d-cpu",
            slow=True,
        ),
        Peer(
            "torch",
            "gather, matrix product and index_add of torch, on the same rulebook",
            {kind: _on_reference(kind) for kind in ("conv", "gradient")},
        ),
        Peer("numpy", "np.unique and np.bincount", {"points": _unique}),
        Peer(
            "open3d",
            "t.geometry.PointCloud.voxel_down_sample, with threads of its own choice",
            {"points": _downsample},
            package="open3d",
            distributions=("open3d", "open3d-cpu"),
            pip="pip install 'sparseconv[io]'",
        ),
        Peer(
            "mm",
            "torch.mm of the same floating-point operations: a yardstick, not a contender; left "
            "out in a 16-bit type it has no instructions for here",
            dict.fromkeys(KINDS, yardsticks.products),
            compares=False,
        ),
        Peer(
            yardsticks.FLOPS,
            "as many multiply-adds that never leave the registers; their share of our time is the "
            "share of the processor's peak that we reach",
            dict.fromkeys(KINDS, yardsticks.multiply_adds),
            package="sparseconv._native",
            pip="the compiled module: install where a C++ compiler is",
            compares=False,
            heading="of FMA peak",
        ),
        Peer(
            yardsticks.BYTES,
            "copying as many bytes in memory as the row must read and write once (features, "
            "weights, pairs, sites); its share of our time",
            dict.fromkeys(KINDS, yardsticks.copy),
            package="sparseconv._native",
            pip="the compiled module: install where a C++ compiler is",
            compares=False,
            heading="of copy",
        ),
    )
}


def choose(names: str) -> list[Peer]:
    """Return the peers of a comma-separated list; `all` (but the slow) and `none` are lists, too.

    Raises:
        ValueError: a name is not known.
    """
    if names == "all":
        return [peer for peer in PEERS.values() if not peer.slow]
    wanted = [] if names == "none" else [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in PEERS:
            raise ValueError(complain("--peers", f"all, none, or {', '.join(PEERS)}", name))
    return [PEERS[name] for name in wanted]
