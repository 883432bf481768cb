"""The unit of SKNet."""

from __future__ import annotations

from math import gcd

from torch import Tensor, nn

from sparseconv.functional.full_grid import on_full_grid
from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.conv.selective_kernel import SKConv3d
from sparseconv.nn.features import ReLU
from sparseconv.nn.norm import BatchNorm
from sparseconv.nn.sequential import Sequential, residual
from sparseconv.tensor.sparse_tensor import SparseTensor


class SKUnit(nn.Module):
    """A bottleneck whose middle chooses its reach: pointwise, selective kernel, pointwise.

    `y = relu(x' + bn(W_2 sk(relu(bn(W_1 x)))))`, x' being x or, where channels change, its
    normalised linear map.

    Args:
        in_channels: C.
        out_channels: D.
        width: channels in the middle; None for D // 2.
        groups: of the selective kernel; None for the largest divisor of the width up to 32.
        reduction: as for `SKConv3d`.

    Source:
        Li et al., "Selective Kernel Networks", arXiv:1903.06586, section 3.2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int | None = None,
        groups: int | None = None,
        reduction: int = 16,
    ) -> None:
        super().__init__()
        width = max(out_channels // 2, 1) if width is None else width
        groups = gcd(width, 32) if groups is None else groups
        self.branch = Sequential(
            PointwiseConv3d(in_channels, width, bias=False),
            BatchNorm(width),
            ReLU(),
            SKConv3d(width, groups=groups, reduction=reduction),
            PointwiseConv3d(width, out_channels, bias=False),
            BatchNorm(out_channels),
        )
        self.skip = (
            nn.Identity()
            if in_channels == out_channels
            else Sequential(
                PointwiseConv3d(in_channels, out_channels, bias=False), BatchNorm(out_channels)
            )
        )
        self.relu = ReLU()

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:  # [N, D] or [B, D, X, Y, Z]
        """Return the unit's output at the sites of `x`."""
        if isinstance(x, Tensor):
            return on_full_grid(self, x)
        return residual(self.branch, x, self.skip(x), self.relu)
