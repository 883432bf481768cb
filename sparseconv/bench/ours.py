"""How this library does each case."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparseconv.bench.problem import Job, Problem, by_site, ordered_pairs, tap_major
from sparseconv.geometry import Geometry
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.topology import ROOT, Level, Topology
from sparseconv.transforms.voxelize import voxelize

CUBE = Geometry.submanifold(3)


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


def _conv_job(problem: Problem) -> Job:
    x = SparseTensor(problem.coords, problem.features, batch_size=1)

    @torch.no_grad()
    def run() -> Tensor:
        return problem.layer(x).features

    return Job(run, lambda y: {"features": y})


def _gradient_job(problem: Problem) -> Job:
    features = problem.features.clone().requires_grad_()
    x = SparseTensor(problem.coords, features, batch_size=1)
    weight = problem.layer.weight

    def run() -> tuple[Tensor, ...]:
        y = problem.layer(x).features
        return (y, *torch.autograd.grad(y, (features, weight), problem.grad))

    def read(results: tuple[Tensor, ...]) -> dict[str, Tensor]:
        y, to_features, to_weight = results
        return {"features": y.detach(), "dx": to_features, "dw": tap_major(to_weight)}

    return Job(run, read)


def _down_job(problem: Problem) -> Job:
    @torch.no_grad()
    def run() -> SparseTensor:
        root = SparseTensor.at(sites_only(problem.coords), ROOT, problem.features)
        return problem.layer(root)

    return Job(run, lambda y: by_site(y.coords, y.features))


def _unet_job(problem: Problem) -> Job:
    @torch.no_grad()
    def run() -> Tensor:
        return problem.layer(SparseTensor(problem.coords, problem.features)).features

    return Job(run, lambda logits: {"logits": logits})


def _training_job(problem: Problem) -> Job:
    net = problem.layer
    # the step is made, but of length 0: every repetition does the same work
    optimiser = torch.optim.SGD(net.parameters(), lr=0.0)

    def run() -> Tensor:
        optimiser.zero_grad()
        logits = net(SparseTensor(problem.coords, problem.features)).features
        loss = nn.functional.cross_entropy(logits, problem.labels)
        loss.backward()
        optimiser.step()
        return loss.detach()

    def read(loss: Tensor) -> dict[str, Tensor]:
        stem = next(m for m in net.modules() if isinstance(m, SubMConv3d))
        return {
            "loss": loss,
            "stem dw": tap_major(stem.weight.grad),
            "classifier dw": net.classify.weight.grad,
        }

    return Job(run, read)


def _points_job(problem: Problem) -> Job:
    scene = problem.scene

    def run() -> SparseTensor:
        return voxelize(scene.xyz, scene.voxel_size, features=problem.values)[0]

    return Job(run, lambda x: by_site(x.coords, x.features))


JOBS: dict[str, Callable[[Problem], Job]] = {
    "rulebook": _rulebook_job,
    "conv": _conv_job,
    "gradient": _gradient_job,
    "down": _down_job,
    "unet": _unet_job,
    "training": _training_job,
    "points": _points_job,
}
