"""Train a network; stop and go on at any step with the same result."""

from __future__ import annotations

import csv
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as dense

from sparseconv._errors import complain
from sparseconv.io.point_cloud import PointCloud
from sparseconv.nn.families import family
from sparseconv.tasks.augment import Reach
from sparseconv.tasks.batches import Batch, Batches
from sparseconv.tasks.checkpoint import (
    load_checkpoint,
    load_weights,
    make_network,
    save_checkpoint,
)
from sparseconv.tasks.inputs import NO_CLASS, labelled_input
from sparseconv.tasks.metrics import confusion, mean_iou
from sparseconv.tasks.recipe import Recipe
from sparseconv.tasks.scenes import VALIDATION_SCENES, Scenes, open_scenes
from sparseconv.tensor.sparse_tensor import SparseTensor

Progress = Callable[[str, int, int], None]
COLUMNS = ("step", "loss", "rate", "validation_miou", "seconds")
WARM_UP = 0.1
LOG_EVERY = 10
WEIGHING_SCENES = 12
PRECISIONS = ("float32", "bfloat16")


def train(
    dataset: str | Path,
    out: str | Path,
    *,
    steps: int = 1000,
    batch: int = 4,
    voxel: float | None = None,
    seed: int = 0,
    resume: bool = True,
    threads: int | None = None,
    workers: int = 0,
    init: str | Path | None = None,
    precision: str = "float32",
    conv: str | None = None,
    save_every: int = 50,
    progress: Progress | None = None,
) -> Path:
    """Train a network on labelled scenes.

    AdamW, learning rate rising over the first tenth of the steps and falling as a cosine; cross
    entropy with classes weighted by the inverse root of their frequency. Writes `log.csv`,
    `last.pt` (everything needed to go on) and `best.pt` (float16 weights of the best validation
    mIoU) into `out`. The same arguments give the same weights, whether the run was interrupted
    or not, on one machine and with one number of threads; the number of workers changes nothing.

    Args:
        dataset: `"rooms"`, `"streets"`, or a folder of labelled scans.
        out: folder for the results.
        steps: optimiser steps in all.
        batch: scenes of a step.
        voxel: edge of a voxel, metres; None for the recipe's.
        seed: of the scenes, their changes and the first weights.
        resume: go on from `last.pt` if it is there; else start anew.
        threads: of torch; None leaves them.
        workers: processes that make the scenes and build their rulebooks while the network trains
            on those before; 0 to do it here. Each uses one thread and keeps the scenes it made.
        init: checkpoint whose weights to start from.
        precision: of the network's layers, `"float32"` or `"bfloat16"`; weights, gradients and
            the optimiser's state are float32 in both.
        conv: short name of the family that convolves in the network's blocks, such as
            `"involution"` (`sparseconv families` lists them); None for the plain one.
        save_every: steps between two validations and savings.
        progress: called with ("train", steps done, steps).

    Returns:
        The path of `best.pt`.

    Raises:
        ValueError: the data, `init` or an earlier run in `out` do not fit.
        KeyboardInterrupt: after Ctrl-C, once the step at hand is done and saved.
    """
    for name, value in (("steps", steps), ("batch", batch), ("save_every", save_every)):
        if value < 1:
            raise ValueError(complain(name, "a whole number above 0", repr(value)))
    if workers < 0:
        raise ValueError(complain("workers", "a whole number, 0 for none", repr(workers)))
    if precision not in PRECISIONS:
        raise ValueError(complain("precision", " or ".join(PRECISIONS), repr(precision)))
    if threads is not None:
        torch.set_num_threads(threads)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    scenes = open_scenes(dataset, voxel, seed)
    if conv is not None:
        scenes.recipe = replace(scenes.recipe, conv=family(conv).key)
    run = _Run(scenes, out, steps, batch, seed, precision)
    if resume and (out / "last.pt").exists():
        run.restore()
    else:
        run.begin(init)
    with _interruptible() as stop, closing(run.batches(workers)) as batches:
        while run.step < steps:
            run.advance(batches)
            if progress is not None:
                progress("train", run.step, steps)
            if run.step % save_every == 0 or run.step == steps:
                run.validate()
                run.save()
            if stop.is_set():
                run.save()
                raise KeyboardInterrupt
    return out / "best.pt"


class _Run:
    """One training run: network, optimiser, how far it is, and its files."""

    def __init__(
        self, scenes: Scenes, out: Path, steps: int, batch: int, seed: int, precision: str
    ) -> None:
        self.scenes, self.recipe, self.out = scenes, scenes.recipe, out
        self.steps, self.batch, self.seed = steps, batch, seed
        self.arguments = {"steps": steps, "batch": batch, "seed": seed}
        if precision != "float32":
            self.arguments["precision"] = precision
        if self.recipe.conv is not None:
            self.arguments["conv"] = self.recipe.conv
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = make_network(self.recipe)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=self.recipe.rate, weight_decay=0.02
        )
        self.step, self.best, self.seconds = 0, -1.0, 0.0
        self.losses: list[float] = []
        self.log: list[list] = []
        self.weights: Tensor | None = None
        self.held: list[tuple[SparseTensor, Tensor]] | None = None

    def begin(self, init: str | Path | None) -> None:
        """Start at step 0, from random weights or those of a checkpoint."""
        if init is not None:
            given, _, _ = load_checkpoint(init)
            load_weights(self.network, given.state_dict(), str(init))
        self.weights = class_weights(self.scenes, self.seed)

    def restore(self) -> None:
        """Go on from `last.pt`."""
        path = self.out / "last.pt"
        network, recipe, state = load_checkpoint(path)
        found = None if state is None else state["arguments"]
        if recipe != self.recipe or found != self.arguments:
            raise ValueError(
                complain(
                    str(path),
                    f"a run of {self.recipe.name} at {self.recipe.voxel} m with {self.arguments}",
                    f"one of {recipe.name} at {recipe.voxel} m with {found}",
                    "repeat the first command, use another folder, or start anew (resume=False)",
                )
            )
        load_weights(self.network, network.state_dict(), str(path))
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.best, self.seconds = state["step"], state["best"], state["seconds"]
        self.losses, self.log = list(state["losses"]), [list(row) for row in state["log"]]
        self.weights = state["weights"]

    def save(self) -> None:
        """Write `last.pt` and `log.csv`."""
        state = {
            "arguments": self.arguments,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "best": self.best,
            "seconds": self.seconds,
            "losses": self.losses,
            "log": self.log,
            "weights": self.weights,
        }
        save_checkpoint(self.out / "last.pt", self.network, self.recipe, training=state)
        self._write_log()

    def batches(self, workers: int) -> Iterator[Batch]:
        """Return what the steps to come are given, made by so many processes."""
        made = Batches(self.scenes, self.batch, self.seed)
        return made.in_turn(range(self.step, self.steps), self.network, workers)

    def advance(self, batches: Iterator[Batch]) -> None:
        """Do one step."""
        started = time.perf_counter()
        x, truth = next(batches)
        rate = learning_rate(self.step, self.steps, self.recipe.rate)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        with self.autocast:
            logits = self.network(x).features
        loss = dense.cross_entropy(
            logits.float(), truth, weight=self.weights, ignore_index=NO_CLASS, label_smoothing=0.02
        )
        if torch.isfinite(loss):
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimiser.step()
            self.losses.append(float(loss.detach()))
        self.step += 1
        self.seconds += time.perf_counter() - started
        if self.step % LOG_EVERY == 0 or self.step == self.steps:
            mean = float(np.mean(self.losses)) if self.losses else float("nan")
            self.log.append([self.step, mean, rate, None, round(self.seconds, 1)])
            self.losses = []

    def validate(self) -> None:
        """Measure on the held-out scenes and keep the weights if they are the best so far."""
        started = time.perf_counter()
        if self.held is None:
            known = self.scenes.validation
            rows = range(min(len(known), VALIDATION_SCENES))
            self.held = [held_input(known[row], self.recipe) for row in rows]
        classes = len(self.recipe.classes)
        total = np.zeros((classes, classes + 1), dtype=np.int64)
        self.network.eval()
        with torch.no_grad(), self.autocast:
            for x, truth in self.held:
                # a fresh topology: a kept one would keep its rulebooks for the whole run
                fresh = SparseTensor(x.coords, x.features, batch_size=x.batch_size)
                found = self.network(fresh).features.argmax(1)
                total += confusion(truth.numpy(), found.numpy(), classes)
        score = mean_iou(total)
        self.seconds += time.perf_counter() - started
        if self.log and self.log[-1][0] == self.step:
            self.log[-1][3] = round(score, 4)
        else:
            rate = learning_rate(self.step - 1, self.steps, self.recipe.rate)
            self.log.append([self.step, None, rate, round(score, 4), round(self.seconds, 1)])
        if score > self.best or not (self.out / "best.pt").exists():
            self.best = score
            save_checkpoint(self.out / "best.pt", self.network, self.recipe, half=True)

    def _write_log(self) -> None:
        path = self.out / "log.csv"
        temporary = path.with_name(".log.csv")
        with temporary.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            for row in self.log:
                rows.writerow(["" if value is None else value for value in row])
        temporary.replace(path)


def held_input(scan: PointCloud, recipe: Recipe) -> tuple[SparseTensor, Tensor]:
    """Return `labelled_input` of an unchanged scan, as far as training reaches."""
    reach = recipe.augmentation.reach
    scan = scan.select(np.isfinite(scan.xyz).all(1))
    return labelled_input([scan if reach is None else Reach(reach)(scan)], recipe)


def class_weights(scenes: Scenes, seed: int) -> Tensor:
    """Return a weight per class, the inverse root of its share of voxels, mean 1, at most 4."""
    classes = len(scenes.recipe.classes)
    count = np.zeros(classes)
    for number in range(WEIGHING_SCENES):
        _, truth = labelled_input([scenes.draw(number, seed)], scenes.recipe)
        count += np.bincount(truth[truth >= 0], minlength=classes)
    share = np.maximum(count / max(count.sum(), 1), 1e-4)
    weight = share**-0.5
    weight = np.minimum(weight / weight.mean(), 4.0)
    return torch.from_numpy(weight / weight.mean()).to(torch.float32)


def learning_rate(step: int, steps: int, largest: float) -> float:
    """Return the rate of a step: a straight rise, then half a cosine down to a hundredth."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return largest * (step + 1) / warm
    passed = (step - warm) / max(1, steps - warm)
    return largest * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * passed)))


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event; a second one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
