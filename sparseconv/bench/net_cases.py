"""Whole nets, everything built from coordinates and features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from sparseconv._errors import complain
from sparseconv.bench.case import Case, numbers
from sparseconv.bench.problem import Problem, Product
from sparseconv.bench.scenes import Scene
from sparseconv.models.mink_unet import MinkUNet, MinkUNetSmall
from sparseconv.nn.conv._base import Convolution
from sparseconv.tensor.sparse_tensor import SparseTensor

CLASSES = 20
POINT_CHANNELS = 4
NETS = {"small": MinkUNetSmall, "full": MinkUNet}

# a ReLU input within rounding of 0 falls on either side, which moves the gradients of all layers
# before it by a percent; wrong weights or sites move them by their own size
TRAINING_TOLERANCE = 0.05


def make_net(name: str) -> MinkUNet:
    """Return the U-Net of a name, or of widths such as `32,64,128,96` (stem, down, up).

    Raises:
        ValueError: neither.
    """
    torch.manual_seed(0)
    if name in NETS:
        return NETS[name](POINT_CHANNELS, CLASSES)
    try:
        widths = [int(part) for part in name.split(",")]
    except ValueError:
        widths = []
    if len(widths) < 3 or len(widths) % 2 == 0 or min(widths) < 1:
        raise ValueError(
            complain("--net", f"{', '.join(NETS)}, or 1 + 2 * levels widths", repr(name))
        )
    return MinkUNet(POINT_CHANNELS, CLASSES, widths)


def net_widths(net: MinkUNet) -> str:
    """Return the widths of stem, levels down and levels up, and the blocks of a level."""
    down = [stage[-1].second[0].out_channels for stage in net.encode]
    up = [stage[-1].second[0].out_channels for stage in net.decode]
    parts = (str(net.stem[0][0].out_channels), "-".join(map(str, down)), "-".join(map(str, up)))
    return f"stem {parts[0]}, down {parts[1]}, up {parts[2]}, {len(net.encode[0])} blocks a level"


def products(net: nn.Module, x: SparseTensor) -> tuple[Product, ...]:
    """Count the pairs of every convolution of a net by running it once."""
    found: list[Product] = []

    def count(layer: Convolution, inputs: tuple, output: SparseTensor) -> None:
        fine, coarse = inputs[0], output
        if layer.transposed:
            fine, coarse = coarse, fine
        book = fine.topology.rulebook(fine.level, coarse.level, layer.geometry)
        sizes = len(inputs[0].features), len(output.features)
        found.append(
            Product.of_layer(len(book), *sizes, layer.weight, layer.in_channels, layer.out_channels)
        )

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, Convolution)]
    training = net.training
    with torch.no_grad():
        net.eval()(x)
    net.train(training)
    for hook in hooks:
        hook.remove()
    return tuple(found)


def _unet(passes: int) -> Callable[[Scene, int, str], Problem]:
    def prepare(scene: Scene, channels: int, net: str) -> Problem:
        made = make_net(net)
        rows = len(scene.coords)
        features = numbers(rows, POINT_CHANNELS)
        generator = torch.Generator().manual_seed(2)
        return Problem(
            scene,
            scene.coords,
            features,
            made.eval() if passes == 1 else made.train(),
            labels=torch.randint(CLASSES, (rows,), generator=generator),
            products=products(made, SparseTensor(scene.coords, features, batch_size=1)),
            passes=passes,
        )

    return prepare


CASES = (
    Case("unet", "U-Net forward, cold", "unet", False, _unet(1), 1e-3),
    Case("training", "U-Net training step, cold", "training", False, _unet(3), TRAINING_TOLERANCE),
)
