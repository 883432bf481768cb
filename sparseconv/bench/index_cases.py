"""Sites, rulebooks and voxels: integers only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sparseconv.bench.case import Case, numbers
from sparseconv.bench.ours import build_rulebook, sites_only, unet_books
from sparseconv.bench.problem import PAIR_BYTES, Problem
from sparseconv.bench.scenes import Scene, shuffled

POINT_CHANNELS = 4


def _as_it_is(coords: Tensor) -> Tensor:
    return coords


def _rulebook(order: Callable[[Tensor], Tensor]) -> Callable[[Scene, int, str], Problem]:
    def prepare(scene: Scene, channels: int, net: str) -> Problem:
        coords = order(scene.coords)
        return Problem(
            scene,
            coords,
            torch.ones(len(coords), 1),
            moved=coords.nbytes + PAIR_BYTES * len(build_rulebook(coords)),
        )

    return prepare


def _unet_rulebooks(order: Callable[[Tensor], Tensor]) -> Callable[[Scene, int, str], Problem]:
    def prepare(scene: Scene, channels: int, net: str) -> Problem:
        coords = order(scene.coords)
        topology = sites_only(coords)
        pairs = sum(len(book) for _, _, book in unet_books(topology))
        sites = sum(level.coords.nbytes for level in topology.levels.values())
        return Problem(scene, coords, torch.ones(len(coords), 1), moved=sites + PAIR_BYTES * pairs)

    return prepare


def _points(scene: Scene, channels: int, net: str) -> Problem:
    values = numbers(len(scene.xyz), POINT_CHANNELS)
    return Problem(scene, scene.coords, torch.ones(len(scene.coords), 1), values=values)


CASES = (
    Case("rulebook", "3³ rulebook", "rulebook", False, _rulebook(_as_it_is)),
    Case("rulebook-shuffled", "3³ rulebook, shuffled rows", "rulebook", False, _rulebook(shuffled)),
    Case(
        "unet-rulebooks",
        "U-Net rulebooks, 5 levels",
        "unet-rulebooks",
        False,
        _unet_rulebooks(_as_it_is),
    ),
    Case(
        "unet-rulebooks-shuffled",
        "the same, shuffled rows",
        "unet-rulebooks",
        False,
        _unet_rulebooks(shuffled),
    ),
    Case("voxelize", "voxelise, mean", "points", False, _points),
)
