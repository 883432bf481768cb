"""Single layers, their rulebook there already where not said otherwise."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sparseconv.bench.case import Case, numbers
from sparseconv.bench.ours import HALF, build_rulebook, sites_only
from sparseconv.bench.problem import PAIR_BYTES, Problem, Product
from sparseconv.bench.scenes import Scene
from sparseconv.nn.conv.regular import SparseConv3d
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.pool import MaxPool3d
from sparseconv.tensor.topology import ROOT

Prepare = Callable[[Scene, int, str], Problem]


def prepare_conv(passes: int) -> Prepare:
    """Return what prepares a 3³ submanifold layer of C to C channels."""

    def prepare(scene: Scene, channels: int, net: str) -> Problem:
        torch.manual_seed(0)
        rows, pairs = len(scene.coords), len(build_rulebook(scene.coords))
        layer = SubMConv3d(channels, channels, 3, bias=False)
        return Problem(
            scene,
            scene.coords,
            numbers(rows, channels),
            layer,
            grad=numbers(rows, channels, seed=1),
            products=(Product.of_layer(pairs, rows, rows, layer.weight, channels, channels),),
            passes=passes,
        )

    return prepare


def _down(scene: Scene, channels: int, net: str) -> Problem:
    torch.manual_seed(0)
    rows = len(scene.coords)
    layer = SparseConv3d(channels, channels, 2, stride=2, bias=False)
    topology = sites_only(scene.coords)
    coarse = len(topology.levels[topology.down(ROOT, HALF)].coords)
    return Problem(
        scene,
        scene.coords,
        numbers(rows, channels),
        layer,
        # with kernel and stride 2 every input row has exactly one pair
        products=(Product.of_layer(rows, rows, coarse, layer.weight, channels, channels),),
    )


def _depthwise(scene: Scene, channels: int, net: str) -> Problem:
    torch.manual_seed(0)
    layer = SubMConv3d(channels, channels, 3, groups=channels, bias=False)
    features = numbers(len(scene.coords), channels)
    pairs = len(build_rulebook(scene.coords)) * PAIR_BYTES
    moved = 2 * features.nbytes + layer.weight.nbytes + pairs
    return Problem(scene, scene.coords, features, layer, moved=moved)


def _pool(scene: Scene, channels: int, net: str) -> Problem:
    features = numbers(len(scene.coords), channels)
    topology = sites_only(scene.coords)
    coarse = len(topology.levels[topology.down(ROOT, HALF)].coords)
    # features in, maxima and the rows they came from out
    moved = features.nbytes + 8 * coarse * channels + PAIR_BYTES * len(features)
    return Problem(scene, scene.coords, features, MaxPool3d(2), moved=moved)


CASES = (
    Case("conv", "3³ submanifold forward", "conv", True, prepare_conv(1)),
    Case("gradient", "3³ forward + backward", "gradient", True, prepare_conv(3)),
    Case("input-gradient", "3³ input gradient", "input-gradient", True, prepare_conv(1)),
    Case("weight-gradient", "3³ weight gradient", "weight-gradient", True, prepare_conv(1)),
    Case("depthwise", "3³ depthwise forward", "conv", True, _depthwise),
    Case("pool", "2³ max pooling", "pool", True, _pool),
    Case("down", "2³ stride 2, cold", "down", True, _down),
)
