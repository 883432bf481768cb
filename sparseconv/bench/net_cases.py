"""Whole nets, everything built from coordinates and features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from sparseconv._errors import complain
from sparseconv.bench.case import Case, numbers
from sparseconv.bench.ours import JOBS
from sparseconv.bench.peers import Peer
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
# some forty roundings of a 256th, one after another
BFLOAT16_TOLERANCE = 0.1


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


def settle(net: nn.Module, x: SparseTensor) -> None:
    """Give batch norms the statistics of this input, so that a trained net's numbers flow."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d)]
    usual = [norm.momentum for norm in norms]
    training = net.training
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(x)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    net.train(training)


def _unet(passes: int) -> Callable[[Scene, int, str], Problem]:
    def prepare(scene: Scene, channels: int, net: str) -> Problem:
        made = make_net(net)
        rows = len(scene.coords)
        features = numbers(rows, POINT_CHANNELS)
        x = SparseTensor(scene.coords, features, batch_size=1)
        settle(made, x)
        generator = torch.Generator().manual_seed(2)
        return Problem(
            scene,
            scene.coords,
            features,
            made.eval() if passes == 1 else made.train(),
            labels=torch.randint(CLASSES, (rows,), generator=generator),
            products=products(made, x),
            passes=passes,
        )

    return prepare


def _in_bfloat16(prepare: Callable[[Scene, int, str], Problem]) -> Callable:
    def made(scene: Scene, channels: int, net: str) -> Problem:
        problem = prepare(scene, channels, net)
        # features travel in bfloat16; weights are kept in float32 and read once to be cast
        halved = tuple(p._replace(bytes=p.bytes // 2) for p in problem.products)
        return replace(problem, products=halved, dtype=torch.bfloat16)

    return made


def _plain(name: str, kind: str, way: str) -> tuple[Peer, ...]:
    return (Peer(name, "this library's own", {kind: JOBS[way]}, own=True),)


CASES = (
    Case("unet", "U-Net forward, cold", "unet", False, _unet(1), 1e-3),
    Case(
        "fused",
        "U-Net forward, fused, cold",
        "fused",
        False,
        _unet(1),
        1e-3,
        _plain("not fused", "fused", "unet"),
    ),
    Case(
        "unet-bfloat16",
        "U-Net forward, bfloat16, cold",
        "unet-bfloat16",
        False,
        _in_bfloat16(_unet(1)),
        BFLOAT16_TOLERANCE,
        _plain("float32", "unet-bfloat16", "unet"),
    ),
    Case(
        "fused-bfloat16",
        "U-Net forward, fused, bfloat16, cold",
        "fused-bfloat16",
        False,
        _in_bfloat16(_unet(1)),
        BFLOAT16_TOLERANCE,
        _plain("float32", "fused-bfloat16", "fused"),
    ),
    Case("training", "U-Net training step, cold", "training", False, _unet(3), TRAINING_TOLERANCE),
    Case(
        "training-bfloat16",
        "U-Net training step, bfloat16, cold",
        "training-bfloat16",
        False,
        _in_bfloat16(_unet(3)),
        BFLOAT16_TOLERANCE,
        _plain("float32", "training-bfloat16", "training"),
        # gradients of the first layers carry the roundings of all layers there and back
        parts=("loss", "classifier dw"),
    ),
    Case("memory", "memory of a training step", "memory", False, _unet(3)),
)
