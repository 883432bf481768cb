"""How this library does each case."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from sparseconv.bench.problem import (
    Job,
    Problem,
    by_site,
    ordered_pairs,
    pairs_by_site,
    tap_major,
)
from sparseconv.geometry import Geometry
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.fuse import fuse
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.topology import ROOT, Level, Topology
from sparseconv.transforms.voxelize import voxelize

CUBE = Geometry.submanifold(3)
HALF = Geometry.make(2, 2)
LEVELS = 5


def sites_only(coords: Tensor) -> Topology:
    """Return a topology in which nothing has been built yet."""
    return Topology.of(Level(coords, (1, 1, 1), None, 1))


def build_rulebook(coords: Tensor, geometry: Geometry = CUBE) -> Rulebook:
    """Return the rulebook of sites onto themselves, site index included."""
    return sites_only(coords).rulebook(ROOT, ROOT, geometry)


def _rulebook_job(problem: Problem) -> Job:
    def read(book: Rulebook) -> dict[str, Tensor]:
        return {"pairs": ordered_pairs(book.in_rows, book.out_rows, book.tap_of_pair)}

    return Job(lambda: build_rulebook(problem.coords), read)


def unet_books(topology: Topology) -> Iterator[tuple[str, str, Rulebook]]:
    """Ask a topology for what a U-Net asks for, level by level, with the levels' names."""
    here = ROOT
    for level in range(LEVELS):
        yield here, here, topology.rulebook(here, here, CUBE)
        if level < LEVELS - 1:
            below = topology.down(here, HALF)
            yield here, below, topology.rulebook(here, below, HALF)
            here = below


def _unet_rulebooks_job(problem: Problem) -> Job:
    def run() -> Topology:
        topology = sites_only(problem.coords)
        for _ in unet_books(topology):
            pass
        return topology

    def read(topology: Topology) -> dict[str, Tensor]:
        found = {}
        for number, (source, target, book) in enumerate(unet_books(topology)):
            found[f"pairs {number}"] = pairs_by_site(
                topology.levels[source].coords,
                topology.levels[target].coords,
                book.in_rows,
                book.out_rows,
                book.tap_of_pair,
            )
        return found

    return Job(run, read)


def _sites(problem: Problem, features: Tensor) -> SparseTensor:
    return SparseTensor.at(sites_only(problem.coords), ROOT, features)


def _layer_job(problem: Problem) -> Job:
    x = _sites(problem, problem.features)

    @torch.no_grad()
    def run() -> Tensor:
        return problem.layer(x).features

    return Job(run, lambda y: by_site(problem.coords, y))


def _pool_job(problem: Problem) -> Job:
    x = _sites(problem, problem.features)

    @torch.no_grad()
    def run() -> SparseTensor:
        return problem.layer(x)

    return Job(run, lambda y: by_site(y.coords, y.features))


def _gradient_alone(of_weight: bool) -> Callable[[Problem], Job]:
    def make(problem: Problem) -> Job:
        features = problem.features.clone().requires_grad_(not of_weight)
        weight = problem.layer.weight.requires_grad_(of_weight)
        y = problem.layer(_sites(problem, features)).features
        wanted = weight if of_weight else features

        def run() -> Tensor:
            return torch.autograd.grad(y, wanted, problem.grad, retain_graph=True)[0]

        def read(gradient: Tensor) -> dict[str, Tensor]:
            return {"gradient": tap_major(gradient) if of_weight else gradient.float()}

        return Job(run, read)

    return make


def _gradient_job(problem: Problem) -> Job:
    features = problem.features.clone().requires_grad_()
    x = _sites(problem, features)
    weight = problem.layer.weight

    def run() -> tuple[Tensor, ...]:
        y = problem.layer(x).features
        return (y, *torch.autograd.grad(y, (features, weight), problem.grad))

    def read(results: tuple[Tensor, ...]) -> dict[str, Tensor]:
        y, to_features, to_weight = results
        return {
            "features": y.detach().float(),
            "dx": to_features.float(),
            "dw": tap_major(to_weight),
        }

    return Job(run, read)


def _down_job(problem: Problem) -> Job:
    @torch.no_grad()
    def run() -> SparseTensor:
        return problem.layer(_sites(problem, problem.features))

    return Job(run, lambda y: by_site(y.coords, y.features))


def _unet_job(fused: bool = False, bfloat16: bool = False) -> Callable[[Problem], Job]:
    def make(problem: Problem) -> Job:
        net = fuse(problem.layer) if fused else problem.layer

        @torch.no_grad()
        def run() -> Tensor:
            with _autocast(bfloat16):
                return net(SparseTensor(problem.coords, problem.features)).features

        return Job(run, lambda logits: {"logits": logits.float()})

    return make


def _training_job(bfloat16: bool = False) -> Callable[[Problem], Job]:
    def make(problem: Problem) -> Job:
        net = problem.layer
        # the step is made, but of length 0: every repetition does the same work
        optimiser = torch.optim.SGD(net.parameters(), lr=0.0)

        def run() -> Tensor:
            optimiser.zero_grad()
            with _autocast(bfloat16):
                logits = net(SparseTensor(problem.coords, problem.features)).features
            loss = nn.functional.cross_entropy(logits.float(), problem.labels)
            loss.backward()
            optimiser.step()
            return loss.detach()

        def read(loss: Tensor) -> dict[str, Tensor]:
            stem = next(m for m in net.modules() if isinstance(m, SubMConv3d))
            return {
                "loss": loss,
                "stem dw": tap_major(stem.weight.grad),
                "classifier dw": net.classify.weight.grad.clone(),
            }

        return Job(run, read)

    return make


def _autocast(wanted: bool) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=wanted)


def _points_job(problem: Problem) -> Job:
    scene = problem.scene

    def run() -> SparseTensor:
        return voxelize(scene.xyz, scene.voxel_size, features=problem.values)[0]

    return Job(run, lambda x: by_site(x.coords, x.features))


JOBS: dict[str, Callable[[Problem], Job]] = {
    "rulebook": _rulebook_job,
    "unet-rulebooks": _unet_rulebooks_job,
    "conv": _layer_job,
    "shuffled": _layer_job,
    "threads": _layer_job,
    "scale": _layer_job,
    "overhead": _layer_job,
    "gradient": _gradient_job,
    "input-gradient": _gradient_alone(of_weight=False),
    "weight-gradient": _gradient_alone(of_weight=True),
    "pool": _pool_job,
    "down": _down_job,
    "unet": _unet_job(),
    "fused": _unet_job(fused=True),
    "unet-bfloat16": _unet_job(bfloat16=True),
    "fused-bfloat16": _unet_job(fused=True, bfloat16=True),
    "training": _training_job(),
    "training-bfloat16": _training_job(bfloat16=True),
    "points": _points_job,
}
