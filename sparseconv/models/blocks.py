"""Blocks the models are made of."""

from __future__ import annotations

from torch import nn

from sparseconv.nn.conv.inverse import SparseInverseConv3d
from sparseconv.nn.conv.regular import SparseConv3d
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.features import Linear, ReLU
from sparseconv.nn.norm import BatchNorm
from sparseconv.nn.sequential import Sequential, residual
from sparseconv.tensor.sparse_tensor import SparseTensor


def conv_norm_relu(conv: nn.Module, channels: int) -> Sequential:
    """Return convolution, batch norm and ReLU, one after another."""
    return Sequential(conv, BatchNorm(channels), ReLU())


class ResidualBlock(nn.Module):
    """Two 3x3x3 submanifold convolutions around which the input is added.

    `y = relu(x' + bn(conv(relu(bn(conv(x))))))`, x' being x or, where channels change, its
    normalised linear map.

    Args:
        in_channels: C.
        out_channels: D.

    Source:
        He et al., "Deep Residual Learning", arXiv:1512.03385, on sparse sites as in Choy et al.,
        arXiv:1904.08755.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = conv_norm_relu(
            SubMConv3d(in_channels, out_channels, 3, bias=False), out_channels
        )
        self.second = Sequential(
            SubMConv3d(out_channels, out_channels, 3, bias=False), BatchNorm(out_channels)
        )
        self.skip = (
            nn.Identity()
            if in_channels == out_channels
            else Sequential(Linear(in_channels, out_channels, bias=False), BatchNorm(out_channels))
        )
        self.relu = ReLU()

    def forward(
        self,
        x: SparseTensor,  # [N, C]
    ) -> SparseTensor:  # [N, D]
        """Return the block's output at the sites of `x`."""
        return residual(self.second, self.first(x), self.skip(x), self.relu)


def down(in_channels: int, out_channels: int) -> Sequential:
    """Return the layer that halves the lattice: kernel 2, stride 2."""
    conv = SparseConv3d(in_channels, out_channels, 2, stride=2, bias=False)
    return conv_norm_relu(conv, out_channels)


def up(in_channels: int, out_channels: int) -> Sequential:
    """Return the layer that goes back to the sites before `down`."""
    return conv_norm_relu(
        SparseInverseConv3d(in_channels, out_channels, 2, bias=False), out_channels
    )
