"""The block of Xception."""

from __future__ import annotations

from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.full_grid import on_full_grid
from sparseconv.nn.conv.depthwise_separable import DepthwiseSeparableConv3d
from sparseconv.nn.conv.regular import SparseConv3d
from sparseconv.nn.features import ReLU
from sparseconv.nn.norm import BatchNorm
from sparseconv.nn.pool import MaxPool3d
from sparseconv.nn.sequential import Sequential
from sparseconv.tensor.sparse_tensor import SparseTensor


class XceptionBlock(nn.Module):
    """Separable convolutions around which the input is added.

    `y = pool(bn(sep(relu(... bn(sep(relu(x))))))) + x'`, x' being x or, where channels or sites
    change, its normalised pointwise map. With a stride a maximum over 3 x 3 x 3 present sites
    halves the lattice, and x' is read at the sites that gives; where it has none it is the
    norm's bias.

    Args:
        in_channels: C.
        out_channels: D.
        repeats: separable convolutions; the first changes the channels.
        stride: voxels, of the pool behind them.
        first_relu: whether the first has a ReLU before it.

    Raises:
        ValueError: `repeats` below 1.

    Source:
        Chollet, "Xception", arXiv:1610.02357, figure 5.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        repeats: int = 2,
        stride: int = 1,
        first_relu: bool = True,
    ) -> None:
        super().__init__()
        if repeats < 1:
            raise ValueError(complain("repeats", "an int >= 1", repr(repeats)))
        layers: list[nn.Module] = []
        for place in range(repeats):
            channels = in_channels if place == 0 else out_channels
            layers += [ReLU()] if place or first_relu else []
            layers += [
                DepthwiseSeparableConv3d(channels, out_channels, 3, padding="subm", bias=False),
                BatchNorm(out_channels),
            ]
        self.layers = Sequential(*layers)
        self.pool = MaxPool3d(3, stride, 1) if stride > 1 else None
        self.skip = self.skip_norm = None
        if stride > 1 or in_channels != out_channels:
            self.skip = SparseConv3d(in_channels, out_channels, 1, stride, bias=False)
            self.skip_norm = BatchNorm(out_channels)

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:  # [M, D] or [B, D, X', Y', Z']
        """Return the block's output."""
        if isinstance(x, Tensor):
            return on_full_grid(self.forward, x)
        y = self.layers(x)
        y = y if self.pool is None else self.pool(y)
        if self.skip is None:
            return y.replace(features=y.features + x.features)
        return self.skip_norm(self.skip(x, y), add=y)
