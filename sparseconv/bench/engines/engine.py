"""What has to be known of another library to run our layers and nets in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sparseconv.bench.problem import Problem, site_order
from sparseconv.nn.conv._base import Convolution


@dataclass(frozen=True)
class Engine:
    """How another library makes its tensors and layers; X stands for its sparse tensor.

    Attributes:
        tensor: from a problem's sites and features [N, C] to an X, nothing built yet.
        layer: an empty layer X -> X like one of ours (submanifold, strided or inverse, without
            bias), with a name for the sites or the step between them, under which rulebooks are
            shared.
        weight: name of its weight.
        pack: from taps [kx, ky, kz, C, D] to that weight.
        unpack: from that weight, and the kernel size, back to taps.
        rows: features of an X.
        with_rows: an X with other features.
        coords: int32 [N, 4] sites of an X, in voxels of its level, batch first.
        keep: makes an X bring along the rulebook that a layer built.
    """

    tensor: Callable[[Problem, Tensor], Any]
    layer: Callable[[Convolution, str], nn.Module]
    weight: str
    pack: Callable[[Tensor], Tensor]
    unpack: Callable[[Tensor, tuple[int, ...]], Tensor]
    rows: Callable[[Any], Tensor]
    with_rows: Callable[[Any, Tensor], Any]
    coords: Callable[[Any], Tensor]
    keep: Callable[[Any, Any], None] = field(default=lambda x, y: None)

    def convert(self, layer: Convolution, key: str) -> nn.Module:
        """Return its layer of the same geometry and weights."""
        made = self.layer(layer, key)
        with torch.no_grad():
            getattr(made, self.weight).copy_(self.pack(taps_of(layer)))
        return made

    def grad_taps(self, made: nn.Module, layer: Convolution) -> Tensor:
        """Return the gradient of a converted layer's weight as taps."""
        return self.unpack(getattr(made, self.weight).grad.detach(), layer.kernel_size)

    def order(self, x: Any, coords: Tensor) -> Tensor:
        """Return which row of `coords` each row of an X is, int64 [N]."""
        order = torch.empty(len(coords), dtype=torch.int64)
        order[site_order(self.coords(x))] = site_order(coords)
        return order


def taps_of(layer: Convolution) -> Tensor:
    """Return a layer's weight as taps [kx, ky, kz, C, D], contiguous."""
    # [D, C, kx, ky, kz], with channels the other way round where it goes from coarse to fine
    last = (0, 1) if layer.transposed else (1, 0)
    return layer.weight.detach().permute(2, 3, 4, *last).contiguous()
