"""The inputs of one row of the table, one way to do it, and the forms in which results compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparseconv.bench.scenes import Scene

Product = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Job:
    """One way to do a case.

    Attributes:
        run: what is timed.
        read: brings what `run` returned into the form in which all ways are compared.
    """

    run: Callable[[], object]
    read: Callable[[object], dict[str, Tensor]]


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
        products: sizes (rows, C, D) of the matrix products that the forward pass cannot avoid.
        passes: forward pass 1, with both gradients 3.
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

    @property
    def flops(self) -> int:
        """Floating-point operations of the pairs: `2 P C D` a layer and pass."""
        return self.passes * sum(2 * p * c * d for p, c, d in self.products)


def ordered_pairs(in_rows: Tensor, out_rows: Tensor, tap: Tensor) -> Tensor:
    """Return the pairs of a rulebook in one order: int64 [P], a number for each."""
    rows = int(max(in_rows.max(), out_rows.max())) + 1 if len(in_rows) else 1
    code = (tap.long() * rows + out_rows.long()) * rows + in_rows.long()
    return code.sort().values


def by_site(coords: Tensor, features: Tensor) -> dict[str, Tensor]:
    """Return sites in lexicographic order with their features."""
    low = coords.long().amin(0)
    code = torch.zeros(len(coords), dtype=torch.int64)
    for column, span in zip((coords - low).long().T, (coords.amax(0) - low + 1), strict=True):
        code = code * span + column
    order = code.argsort()
    return {"coords": coords[order].long(), "features": features[order].detach()}


def tap_major(weight: Tensor) -> Tensor:
    """Bring a weight or its gradient from [D, C, kx, ky, kz] to [kx, ky, kz, C, D]."""
    return weight.detach().permute(2, 3, 4, 1, 0)
