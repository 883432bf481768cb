"""What is timed, and on which inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparseconv.bench.ours import build_rulebook
from sparseconv.bench.problem import Problem, Product
from sparseconv.bench.scenes import Scene, shuffled
from sparseconv.models.mink_unet import MinkUNet, MinkUNetSmall
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.conv.regular import SparseConv3d
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.tensor.sparse_tensor import SparseTensor

CLASSES = 20
POINT_CHANNELS = 4


@dataclass(frozen=True)
class Case:
    """One line of the table for each scene (and each width).

    Attributes:
        name: as chosen on the command line.
        title: as shown.
        kind: which job of a contender does it.
        swept: whether it is run once per channel count.
        prepare: makes the inputs from a scene, a width and whether the large net is wanted.
        tolerance: greatest difference from a peer, over the largest number of the result.
    """

    name: str
    title: str
    kind: str
    swept: bool
    prepare: Callable[[Scene, int, bool], Problem]
    tolerance: float = 1e-4


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _prepare_rulebook(order: Callable[[Tensor], Tensor]) -> Callable[[Scene, int, bool], Problem]:
    def prepare(scene: Scene, channels: int, full: bool) -> Problem:
        coords = order(scene.coords)
        return Problem(scene, coords, torch.ones(len(coords), 1))

    return prepare


def _prepare_conv(passes: int) -> Callable[[Scene, int, bool], Problem]:
    def prepare(scene: Scene, channels: int, full: bool) -> Problem:
        torch.manual_seed(0)
        rows = len(scene.coords)
        return Problem(
            scene,
            scene.coords,
            _random(rows, channels),
            SubMConv3d(channels, channels, 3, bias=False),
            grad=_random(rows, channels, seed=1),
            products=((len(build_rulebook(scene.coords)), channels, channels),),
            passes=passes,
        )

    return prepare


def _prepare_down(scene: Scene, channels: int, full: bool) -> Problem:
    torch.manual_seed(0)
    rows = len(scene.coords)
    layer = SparseConv3d(channels, channels, 2, stride=2, bias=False)
    # with kernel and stride 2 every input row has exactly one pair
    return Problem(
        scene, scene.coords, _random(rows, channels), layer, products=((rows, channels, channels),)
    )


def _prepare_unet(passes: int) -> Callable[[Scene, int, bool], Problem]:
    def prepare(scene: Scene, channels: int, full: bool) -> Problem:
        torch.manual_seed(0)
        net = (MinkUNet if full else MinkUNetSmall)(POINT_CHANNELS, CLASSES)
        rows = len(scene.coords)
        features = _random(rows, POINT_CHANNELS)
        generator = torch.Generator().manual_seed(2)
        return Problem(
            scene,
            scene.coords,
            features,
            net.eval() if passes == 1 else net.train(),
            labels=torch.randint(CLASSES, (rows,), generator=generator),
            products=_products(net, SparseTensor(scene.coords, features, batch_size=1)),
            passes=passes,
        )

    return prepare


def _prepare_points(scene: Scene, channels: int, full: bool) -> Problem:
    values = _random(len(scene.xyz), POINT_CHANNELS)
    return Problem(scene, scene.coords, torch.ones(len(scene.coords), 1), values=values)


def _products(net: nn.Module, x: SparseTensor) -> tuple[Product, ...]:
    """Count the pairs of every convolution of a net by running it once."""
    found: list[Product] = []

    def count(layer: Convolution, inputs: tuple, output: SparseTensor) -> None:
        fine, coarse = inputs[0], output
        if layer.transposed:
            fine, coarse = coarse, fine
        book = fine.topology.rulebook(fine.level, coarse.level, layer.geometry)
        found.append((len(book), layer.in_channels, layer.out_channels))

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, Convolution)]
    training = net.training
    with torch.no_grad():
        net.eval()(x)
    net.train(training)
    for hook in hooks:
        hook.remove()
    return tuple(found)


# a ReLU input within rounding of 0 falls on either side, which moves the gradients of all layers
# before it by a percent; wrong weights or sites move them by their own size
TRAINING_TOLERANCE = 0.05

CASES = {
    case.name: case
    for case in (
        Case(
            "rulebook",
            "3³ rulebook",
            "rulebook",
            False,
            _prepare_rulebook(lambda coords: coords),
        ),
        Case(
            "rulebook-shuffled",
            "3³ rulebook, shuffled rows",
            "rulebook",
            False,
            _prepare_rulebook(shuffled),
        ),
        Case("conv", "3³ submanifold forward", "conv", True, _prepare_conv(1)),
        Case(
            "gradient",
            "3³ forward + backward",
            "gradient",
            True,
            _prepare_conv(3),
        ),
        Case("down", "2³ stride 2, cold", "down", True, _prepare_down),
        Case("unet", "U-Net forward, cold", "unet", False, _prepare_unet(1), 1e-3),
        Case(
            "training",
            "U-Net training step, cold",
            "training",
            False,
            _prepare_unet(3),
            TRAINING_TOLERANCE,
        ),
        Case("voxelize", "voxelise, mean", "points", False, _prepare_points),
    )
}
