"""The cases of the benchmark, done by another library's layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparseconv.bench.engines.engine import Engine
from sparseconv.bench.engines.net import EngineUNet
from sparseconv.bench.problem import Job, Problem, by_site

JobMaker = Callable[[Problem], Job | None]
EngineMaker = Callable[[], Engine]


def engine_jobs(engine: EngineMaker) -> dict[str, JobMaker]:
    """Return how a library does layers and nets; rulebooks alone are for its own file to add.

    Args:
        engine: imports the library and tells how to use it; called when a job is made.
    """
    makers = {
        "conv": _conv_job,
        "shuffled": _conv_job,
        "gradient": _gradient_job,
        "down": _down_job,
        "unet": _unet_job,
        "fused": _unet_job,
        "unet-bfloat16": _unet_job,
        "fused-bfloat16": _unet_job,
        "training": _training_job,
        "training-bfloat16": _training_job,
    }
    return {kind: partial(make, engine) for kind, make in makers.items()}


def _warm(engine: Engine, problem: Problem, layer: nn.Module, features: Tensor) -> Any:
    """Return a tensor that brings the rulebook along."""
    x = engine.tensor(problem, features)
    with torch.no_grad():
        engine.keep(x, layer(x))
    return x


def _layer(engine: Engine, problem: Problem) -> nn.Module | None:
    # on the processor they take no notice of groups, or know none, and have no bfloat16
    if problem.dtype != torch.float32 or problem.layer.groups > 1:
        return None
    return engine.convert(problem.layer, "s0")


def _conv_job(make: EngineMaker, problem: Problem) -> Job | None:
    engine = make()
    layer = _layer(engine, problem)
    if layer is None:
        return None
    x = _warm(engine, problem, layer, problem.features)

    @torch.no_grad()
    def run() -> Any:
        return layer(x)

    return Job(run, lambda y: by_site(engine.coords(y), engine.rows(y)))


def _gradient_job(make: EngineMaker, problem: Problem) -> Job | None:
    engine = make()
    layer = _layer(engine, problem)
    if layer is None:
        return None
    features = problem.features.clone().requires_grad_()
    x = _warm(engine, problem, layer, features)
    order = engine.order(x, problem.coords)
    grad, weight = problem.grad[order].contiguous(), getattr(layer, engine.weight)

    def run() -> tuple[Tensor, ...]:
        y = engine.rows(layer(x))
        return (y, *torch.autograd.grad(y, (features, weight), grad, retain_graph=True))

    def read(results: tuple[Tensor, ...]) -> dict[str, Tensor]:
        y, to_features, to_weight = results
        rows = torch.empty_like(y.detach())
        rows[order] = y.detach()
        size = problem.layer.kernel_size
        return {"features": rows, "dx": to_features, "dw": engine.unpack(to_weight, size)}

    return Job(run, read)


def _down_job(make: EngineMaker, problem: Problem) -> Job:
    engine = make()
    layer = engine.convert(problem.layer, "d0")

    @torch.no_grad()
    def run() -> Any:
        return layer(engine.tensor(problem, problem.features))

    return Job(run, lambda y: by_site(engine.coords(y), engine.rows(y)))


def _unet_job(make: EngineMaker, problem: Problem) -> Job:
    engine = make()
    net = EngineUNet(engine, problem.layer)
    order = engine.order(engine.tensor(problem, problem.features), problem.coords)

    @torch.no_grad()
    def run() -> Tensor:
        return net(engine.tensor(problem, problem.features))

    def read(logits: Tensor) -> dict[str, Tensor]:
        rows = torch.empty_like(logits)
        rows[order] = logits
        return {"logits": rows}

    return Job(run, read)


def _training_job(make: EngineMaker, problem: Problem) -> Job:
    engine = make()
    net = EngineUNet(engine, problem.layer)
    order = engine.order(engine.tensor(problem, problem.features), problem.coords)
    labels = problem.labels[order]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.0)

    def run() -> Tensor:
        optimiser.zero_grad()
        logits = net(engine.tensor(problem, problem.features))
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimiser.step()
        return loss.detach()

    def read(loss: Tensor) -> dict[str, Tensor]:
        return {
            "loss": loss,
            "stem dw": engine.grad_taps(net.stem[0].conv, problem.layer.stem[0][0]),
            "classifier dw": net.classify.weight.grad,
        }

    return Job(run, read)
