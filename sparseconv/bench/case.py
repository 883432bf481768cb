"""What one line of the table is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseconv.bench.peers import Peer
from sparseconv.bench.problem import Problem
from sparseconv.bench.scenes import Scene


@dataclass(frozen=True, eq=False)
class Case:
    """One line of the table for each scene (and each width).

    Attributes:
        name: as chosen on the command line.
        title: as shown.
        kind: which job of a contender does it.
        swept: whether it is run once per channel count.
        prepare: makes the inputs from a scene, a width and the name or widths of the U-Net.
        tolerance: greatest difference from a peer, over the largest number of the result.
        beside: other ways of this library, always run along.
        threads: of ours; 0 for those of the command line.
        scenes: those it is run on; the chosen ones if none.
        parts: of the result that are compared; all if none.
        usual: whether it is run when no cases are named.
    """

    name: str
    title: str
    kind: str
    swept: bool
    prepare: Callable[[Scene, int, str], Problem]
    tolerance: float = 1e-4
    beside: tuple[Peer, ...] = ()
    threads: int = 0
    scenes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    usual: bool = True


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Return the same normal numbers every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
