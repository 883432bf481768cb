"""The block of MobileNet."""

from __future__ import annotations

from torch import Tensor

from sparseconv.functional.full_grid import on_full_grid
from sparseconv.nn.conv.depthwise import DepthwiseConv3d
from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.features import ReLU
from sparseconv.nn.norm import BatchNorm
from sparseconv.nn.sequential import Sequential
from sparseconv.tensor.sparse_tensor import SparseTensor


class MobileNetBlock(Sequential):
    """Depthwise and pointwise convolution, a batch norm and ReLU behind each.

    With a stride of 1 it keeps the sites; else the depthwise layer, padded by half its kernel,
    makes those of `SparseConv3d`. `fuse` folds both norms.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps along every axis, odd.
        stride: voxels.

    Source:
        Howard et al., "MobileNets", arXiv:1704.04861, figure 3.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1
    ) -> None:
        padding = "subm" if stride == 1 else kernel_size // 2
        super().__init__(
            DepthwiseConv3d(in_channels, kernel_size, stride, padding, bias=False),
            BatchNorm(in_channels),
            ReLU(),
            PointwiseConv3d(in_channels, out_channels, bias=False),
            BatchNorm(out_channels),
            ReLU(),
        )

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:  # [M, D] or [B, D, X', Y', Z']
        """Return the block's output."""
        return on_full_grid(super().forward, x) if isinstance(x, Tensor) else super().forward(x)
