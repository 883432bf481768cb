"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sparseconv.functional import global_pool as pooled
from sparseconv.functional.pool import avg_pool3d, max_pool3d, sum_pool3d, unpool3d
from sparseconv.geometry import Geometry
from sparseconv.tensor.sparse_tensor import SparseTensor


class _Pool(nn.Module):
    """Windows of a pooling layer.

    Args:
        kernel_size: voxels per axis, an int or three.
        stride: voxels; None for `kernel_size`.
        padding: voxels.
        dilation: voxels between taps.
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
    ) -> None:
        super().__init__()
        step = kernel_size if stride is None else stride
        self.geometry = Geometry.make(kernel_size, step, padding, dilation)

    def extra_repr(self) -> str:
        """Return kernel size and stride."""
        return f"kernel_size={self.geometry.size}, stride={self.geometry.stride}"


class MaxPool3d(_Pool):
    """Maximum over the active sites of each window: [N, C] to [M, C].

    Empty sites do not count, so a window of negative numbers gives the greatest of them. Ties give
    the whole gradient to the lowest row. Arguments as in `_Pool`: `kernel_size, stride=None,
    padding=0, dilation=1`.
    """

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Return the pooled tensor."""
        return max_pool3d(x, self.geometry)


class SumPool3d(_Pool):
    """Sum over the active sites of each window: [N, C] to [M, C]."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Return the pooled tensor."""
        return sum_pool3d(x, self.geometry)


class AvgPool3d(_Pool):
    """Average over each window: [N, C] to [M, C].

    Args:
        kernel_size: voxels per axis, an int or three.
        stride: voxels; None for `kernel_size`.
        padding: voxels.
        dilation: voxels between taps.
        count: divide by the active sites of the window (`"present"`), or by all its taps
            (`"kernel"`, as `torch.nn.AvgPool3d` does to the zero-filled grid).
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        count: str = "present",
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation)
        self.count = count

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Return the pooled tensor."""
        return avg_pool3d(x, self.geometry, self.count)


class Unpool(nn.Module):
    """Copy each site's features to the sites its pooling or strided convolution came from."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Return [N, C] at the sites before that layer; raises ValueError where there was none."""
        return unpool3d(x)


class GlobalSumPool(nn.Module):
    """Sum over the active sites of each scan: [N, C] to [B, C], 0 for an empty scan."""

    def forward(self, x: SparseTensor) -> Tensor:
        """Return the sums."""
        return pooled.global_sum_pool(x)


class GlobalAvgPool(nn.Module):
    """Average over the active sites of each scan: [N, C] to [B, C], 0 for an empty scan."""

    def forward(self, x: SparseTensor) -> Tensor:
        """Return the averages."""
        return pooled.global_avg_pool(x)


class GlobalMaxPool(nn.Module):
    """Maximum over the active sites of each scan: [N, C] to [B, C], 0 for an empty scan."""

    def forward(self, x: SparseTensor) -> Tensor:
        """Return the maxima."""
        return pooled.global_max_pool(x)
