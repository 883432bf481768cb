"""The inputs of one row of the table, one way to do it, and the forms in which results compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparseconv.bench.scenes import Scene

PAIR_BYTES = 8


class Product(NamedTuple):
    """One matrix product a net cannot avoid, and the bytes that go with it.

    Attributes:
        rows: pairs of rows, P.
        channels: C.
        width: D.
        bytes: of inputs, outputs, weights and pairs, each once.
    """

    rows: int
    channels: int
    width: int
    bytes: int = 0

    @property
    def flops(self) -> int:
        """Floating-point operations, `2 P C D`."""
        return 2 * self.rows * self.channels * self.width

    @classmethod
    def of_layer(
        cls, pairs: int, num_in: int, num_out: int, weight: Tensor, channels: int, width: int
    ) -> Product:
        """Return that of a convolution; features have the dtype of its weight."""
        numbers = num_in * channels + num_out * width + weight.numel()
        return cls(pairs, channels, width, numbers * weight.element_size() + pairs * PAIR_BYTES)


@dataclass(frozen=True, eq=False)
class Job:
    """One way to do a case.

    Attributes:
        run: what is timed.
        read: brings what `run` returned into the form in which all ways are compared.
        part: work of one run over the work of the row; its times are divided by it.
    """

    run: Callable[[], object]
    read: Callable[[object], dict[str, Tensor]]
    part: float = 1.0


@dataclass(frozen=True, eq=False)
class Problem:
    """The inputs that every contender of one row of the table gets.

    Attributes:
        scene: the scan.
        coords: int32 [N, 4], in the row order of the case.
        features: float32 [N, C].
        layer: holds the weights: a convolution, a U-Net, or None.
        grad: float32 [N, D], what the backward pass begins with.
        labels: int64 [N], what the U-Net is trained on.
        values: float32 [N points, 4], what is voxelised.
        products: matrix products that the forward pass cannot avoid.
        passes: forward pass or one gradient 1, forward with both gradients 3.
        moved: bytes read and written where there are no products.
        dtype: of the products' factors.
    """

    scene: Scene
    coords: Tensor
    features: Tensor
    layer: nn.Module | None = None
    grad: Tensor | None = None
    labels: Tensor | None = None
    values: Tensor | None = None
    products: tuple[Product, ...] = ()
    passes: int = 1
    moved: int = 0
    dtype: torch.dtype = torch.float32

    @property
    def flops(self) -> int:
        """Floating-point operations of the pairs: `2 P C D` a layer and pass."""
        return self.passes * sum(product.flops for product in self.products)

    @property
    def bytes(self) -> int:
        """Bytes that must be read or written once: features, weights, pairs, sites."""
        return self.moved + self.passes * sum(product.bytes for product in self.products)

    def floor(self, flops_rate: float, bytes_rate: float) -> float:
        """Return the seconds that counted operations and bytes take at these rates.

        Each layer takes the longer of the two; layers follow one another.

        Args:
            flops_rate: operations a second.
            bytes_rate: bytes a second.
        """
        layers = sum(max(p.flops / flops_rate, p.bytes / bytes_rate) for p in self.products)
        return self.moved / bytes_rate + self.passes * layers


def ordered_pairs(in_rows: Tensor, out_rows: Tensor, tap: Tensor) -> Tensor:
    """Return the pairs of a rulebook in one order: int64 [P], a number for each."""
    rows = int(max(in_rows.max(), out_rows.max())) + 1 if len(in_rows) else 1
    code = (tap.long() * rows + out_rows.long()) * rows + in_rows.long()
    return code.sort().values


def site_order(coords: Tensor) -> Tensor:
    """Return the rows of sites in lexicographic order, int64 [N]."""
    low = coords.long().amin(0)
    code = torch.zeros(len(coords), dtype=torch.int64)
    for column, span in zip((coords - low).long().T, (coords.amax(0) - low + 1), strict=True):
        code = code * span + column
    return code.argsort()


def by_site(coords: Tensor, features: Tensor) -> dict[str, Tensor]:
    """Return sites in lexicographic order with their features, in float32 at least."""
    order = site_order(coords)
    rows = features[order].detach()
    wide = rows if rows.dtype == torch.float64 else rows.float()
    return {"coords": coords[order].long(), "features": wide}


def pairs_by_site(
    source: Tensor, target: Tensor, in_rows: Tensor, out_rows: Tensor, tap: Tensor
) -> Tensor:
    """Return the pairs of a rulebook by the ranks of their sites: no row order matters.

    Args:
        source: [N, 4] sites of input rows.
        target: [M, 4] sites of output rows.
        in_rows: [P].
        out_rows: [P].
        tap: [P].
    """
    ranks = []
    for coords, rows in ((source, in_rows), (target, out_rows)):
        order = site_order(coords)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order))
        ranks.append(rank[rows.long()])
    return ordered_pairs(*ranks, tap)


def tap_major(weight: Tensor) -> Tensor:
    """Bring a weight or its gradient from [D, C, kx, ky, kz] to [kx, ky, kz, C, D]."""
    return weight.detach().float().permute(2, 3, 4, 1, 0)
