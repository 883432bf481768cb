"""The unit of ShuffleNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.full_grid import on_full_grid
from sparseconv.nn.conv.depthwise import DepthwiseConv3d
from sparseconv.nn.conv.group_pointwise import GroupPointwiseConv3d
from sparseconv.nn.conv.shuffled_group import ShuffledGroupConv3d
from sparseconv.nn.features import ReLU
from sparseconv.nn.norm import BatchNorm
from sparseconv.nn.pool import AvgPool3d
from sparseconv.nn.sequential import Sequential, residual
from sparseconv.tensor.sparse_tensor import SparseTensor


class ShuffleNetUnit(nn.Module):
    """Grouped pointwise, shuffle, depthwise, grouped pointwise; the input added or laid beside.

    With stride 1 the result is `relu(x + branch(x))`. With stride 2 it is `relu` of the average of
    x over 3 x 3 x 3 present sites and the branch side by side, the branch giving D - C channels.
    The channels are shuffled before the depthwise convolution, which has no ReLU behind it.

    Args:
        in_channels: C.
        out_channels: D; C with stride 1, more with stride 2.
        groups: G of the pointwise convolutions, a divisor of all channel counts.
        stride: voxels, 1 or 2.
        mid_channels: channels of the depthwise convolution; None for D // 4.
        first_groups: G of the first pointwise convolution, 1 where C is small; None for `groups`.

    Raises:
        ValueError: channels, groups and stride do not fit.

    Source:
        Zhang et al., "ShuffleNet", arXiv:1707.01083, figure 2 (b) and (c).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        groups: int,
        stride: int = 1,
        mid_channels: int | None = None,
        first_groups: int | None = None,
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(complain("stride", "1 or 2", repr(stride)))
        if (out_channels != in_channels) if stride == 1 else (out_channels <= in_channels):
            raise ValueError(
                complain(
                    "out_channels",
                    f"{in_channels} with stride 1, more with stride 2",
                    f"{out_channels} with stride {stride}",
                )
            )
        middle = out_channels // 4 if mid_channels is None else mid_channels
        width = out_channels if stride == 1 else out_channels - in_channels
        first = groups if first_groups is None else first_groups
        if first == groups:
            reduce = ShuffledGroupConv3d(in_channels, middle, groups)
        else:
            reduce = GroupPointwiseConv3d(in_channels, middle, first)
        self.branch = Sequential(
            reduce,
            BatchNorm(middle),
            ReLU(),
            DepthwiseConv3d(middle, 3, stride, "subm" if stride == 1 else 1, bias=False),
            BatchNorm(middle),
            GroupPointwiseConv3d(middle, width, groups),
            BatchNorm(width),
        )
        self.pool = AvgPool3d(3, 2, 1) if stride == 2 else None
        self.relu = ReLU()

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:  # [M, D] or [B, D, X', Y', Z']
        """Return the unit's output."""
        if isinstance(x, Tensor):
            return on_full_grid(self.forward, x)
        if self.pool is None:
            return residual(self.branch, x, x, self.relu)
        y = self.branch(x)
        return self.relu(y.replace(features=torch.cat([self.pool(x).features, y.features], 1)))
