"""The unit of DiCENet."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from torch import Tensor, nn

from sparseconv.functional.full_grid import on_full_grid
from sparseconv.functional.global_pool import global_avg_pool
from sparseconv.functional.per_item import of_items
from sparseconv.nn.conv.dim import DimConv3d
from sparseconv.nn.conv.group_pointwise import GroupPointwiseConv3d
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.features import ReLU
from sparseconv.nn.norm import BatchNorm
from sparseconv.nn.sequential import Sequential
from sparseconv.tensor.sparse_tensor import SparseTensor


class DiCEUnit(nn.Module):
    """Dimension-wise convolution, joined channel by channel and then across channels.

    `u = relu(bn(J relu(bn(dim(x)))))`, J joining the four branches of each channel;
    `y[n] = relu(bn(conv(u)))[n] * a[b]`, `a = sigmoid(V relu(W mean of u over the scan))`, conv
    being a grouped 3x3x3 submanifold convolution.

    Args:
        in_channels: C.
        out_channels: D.
        spatial_shape: extent of the lattice in voxels, as for `DimConv3d`.
        kernel_size: of the dimension-wise convolution.
        reduction: W has C // reduction rows.
        plane_mode: as for `DimConv3d`.

    Source:
        Mehta, Hajishirzi, Rastegari, "DiCENet", arXiv:1906.03516, section 3.2, of images; here
        over voxels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_shape: int | Sequence[int],
        kernel_size: int | Sequence[int] = 3,
        reduction: int = 4,
        plane_mode: str = "strict",
    ) -> None:
        super().__init__()
        dim = DimConv3d(in_channels, spatial_shape, kernel_size, plane_mode=plane_mode)
        self.local = Sequential(
            dim,
            BatchNorm(dim.out_channels),
            ReLU(),
            GroupPointwiseConv3d(dim.out_channels, in_channels, in_channels),
            BatchNorm(in_channels),
            ReLU(),
        )
        groups = gcd(in_channels, out_channels)
        self.project = Sequential(
            SubMConv3d(in_channels, out_channels, 3, groups=groups, bias=False),
            BatchNorm(out_channels),
            ReLU(),
        )
        hidden = max(in_channels // reduction, 1)
        self.gate = nn.Sequential(
            nn.Linear(in_channels, hidden),
            nn.ReLU(),
            nn.Linear(hidden, out_channels),
            nn.Sigmoid(),
        )

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:  # [N, D] or [B, D, X, Y, Z]
        """Return the unit's output at the sites of `x`."""
        if isinstance(x, Tensor):
            return on_full_grid(self, x)
        u = self.local(x)
        y = self.project(u)
        gate = self.gate(global_avg_pool(u)).to(y.dtype)
        return y.replace(features=y.features * of_items(gate, y))
