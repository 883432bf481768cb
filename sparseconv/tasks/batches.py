"""What the steps of a training run are given, made here or by other processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sparseconv.tasks.augment import augmenter
from sparseconv.tasks.inputs import labelled_input
from sparseconv.tasks.scenes import Scenes
from sparseconv.tensor.plan import Plan, plan
from sparseconv.tensor.shared import room_to_share
from sparseconv.tensor.sparse_tensor import SparseTensor

Batch = tuple[SparseTensor, Tensor]
# seconds to wait for a worker; 0 waits as long as it lives
PATIENCE = 0.0


class Batches(torch.utils.data.Dataset):
    """Inputs and classes by number of the step; the same number gives the same, in any process.

    Args:
        scenes: to draw from.
        size: scenes of a step.
        seed: of the scenes and their changes.
    """

    def __init__(self, scenes: Scenes, size: int, seed: int) -> None:
        self.scenes, self.size, self.seed = scenes, size, seed
        self.change = augmenter(scenes.recipe.augmentation)
        self.plan = Plan()

    def __getitem__(self, step: int) -> Batch:
        """Return features [V, C] and classes int64 [V] of a step, what the plan says built."""
        scans = [
            self.change(
                self.scenes.draw(number, self.seed), np.random.default_rng([self.seed, number, 3])
            )
            for number in range(step * self.size, (step + 1) * self.size)
        ]
        x, truth = labelled_input(scans, self.scenes.recipe)
        return self.plan.build(x), truth

    def in_turn(self, steps: Sequence[int], network: nn.Module, workers: int) -> Iterator[Batch]:
        """Return the batches of steps one after the other.

        Args:
            steps: their numbers.
            network: whose levels and rulebooks the workers build.
            workers: processes; 0 for this one, where layers build what they need.

        Yields:
            What `self[step]` gives.

        Raises:
            ValueError, OSError: as the scenes do, from whichever process.
        """
        if workers == 0:
            yield from map(self.__getitem__, steps)
            return
        one = SparseTensor(torch.zeros(1, 4, dtype=torch.int32), torch.zeros(1, self._channels))
        self.plan = plan(network, one)
        loader = torch.utils.data.DataLoader(
            _Sent(self),
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_ignore_interrupts,
            timeout=PATIENCE,
        )
        for made in loader:
            if isinstance(made, Exception):
                raise made
            yield made

    @property
    def _channels(self) -> int:
        return self.scenes.recipe.in_channels


class _Sent(torch.utils.data.Dataset):
    """Batches by way of another process, with what a user's data may raise: torch would wrap it.

    They are put into shared memory here: where that fails in the thread that sends them, the main
    process waits for ever.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Batch | Exception:
        try:
            x, truth = self.batches[step]
            with room_to_share():
                return x.share_memory_(), truth.share_memory_()
        except (ValueError, OSError) as error:
            return error


def _as_it_is(made: Batch | Exception) -> Batch | Exception:
    return made


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C, which reaches every process of a terminal, to the one that started the rest."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
