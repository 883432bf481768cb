"""Blocks the models are made of."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from sparseconv._errors import complain
from sparseconv.nn.conv.inverse import SparseInverseConv3d
from sparseconv.nn.conv.regular import SparseConv3d
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.families import family
from sparseconv.nn.features import Linear, ReLU
from sparseconv.nn.norm import BatchNorm
from sparseconv.nn.sequential import Sequential, residual
from sparseconv.tensor.sparse_tensor import SparseTensor

Maker = Callable[[int, int], nn.Module]


def cube(in_channels: int, out_channels: int) -> SubMConv3d:
    """Return the usual layer of a block: 3x3x3 submanifold, no bias before a norm."""
    return SubMConv3d(in_channels, out_channels, 3, bias=False)


def maker(conv: str | Maker | None) -> Maker:
    """Return what makes the convolutions of a block.

    Args:
        conv: the short name of a family (see `sparseconv.nn.families`), a callable from
            `in_channels, out_channels` to a layer that keeps the sites, or None for `cube`.

    Raises:
        ValueError: no such family.
        TypeError: neither of these.
    """
    if conv is None:
        return cube
    if isinstance(conv, str):
        make = family(conv).make
        return lambda in_channels, out_channels: make(in_channels, out_channels, None)
    if not callable(conv):
        raise TypeError(
            complain("conv", "a family's name or a callable of two numbers", repr(conv))
        )
    return conv


def conv_norm_relu(conv: nn.Module, channels: int) -> Sequential:
    """Return convolution, batch norm and ReLU, one after another."""
    return Sequential(conv, BatchNorm(channels), ReLU())


class ResidualBlock(nn.Module):
    """Two convolutions around which the input is added.

    `y = relu(x' + bn(conv(relu(bn(conv(x))))))`, x' being x or, where channels change, its
    normalised linear map.

    Args:
        in_channels: C.
        out_channels: D.
        conv: makes the convolutions from their channels; 3x3x3 submanifold ones if none is given.

    Source:
        He et al., "Deep Residual Learning", arXiv:1512.03385, on sparse sites as in Choy et al.,
        arXiv:1904.08755.
    """

    def __init__(self, in_channels: int, out_channels: int, conv: Maker = cube) -> None:
        super().__init__()
        self.first = conv_norm_relu(conv(in_channels, out_channels), out_channels)
        self.second = Sequential(conv(out_channels, out_channels), BatchNorm(out_channels))
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
