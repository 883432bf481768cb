"""Dimension-wise convolution of a sparse tensor: kernels of channels, and of planes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as dense

from sparseconv.geometry import Geometry
from sparseconv.ops.dim_conv import dim_conv
from sparseconv.tensor.sparse_tensor import SparseTensor


def resample_planes(
    bank: Tensor,  # [L, ...]
    count: int,
) -> Tensor:  # [count, ...]
    """Stretch a bank of kernels linearly along its first axis, ends to ends."""
    if bank.shape[0] == count:
        return bank
    lines = bank.flatten(1).t()[None]
    stretched = dense.interpolate(lines, size=count, mode="linear", align_corners=True)
    return stretched[0].t().reshape(count, *bank.shape[1:])


def plane_conv(
    x: SparseTensor,  # [N, C]
    banks: Sequence[Tensor],  # A of [L, ...]
    axes: Sequence[int],
    planes: Sequence[int],
    shifts: Sequence[int],
    geometry: Geometry,
    join: Tensor | None = None,  # [A, C]
    bias: Tensor | None = None,  # [C]
) -> Tensor:  # [N, A C], joined [N, C]
    """Convolve with kernels of every channel, and of every plane across an axis.

    Channel `A c + r` of the result is branch r of channel c: see `sparseconv.ops.dim_conv`. All
    branches read the one rulebook of the whole window.

    Args:
        x: [N, C], on sites within the lattice.
        banks: dtype of `x`, the kernels of every branch: [C, kx, ky, kz] for channels,
            [planes, J, ...] without the axis for an axis.
        axes: of the branches, 0 for channels, 1 to 3 for x, y and z.
        planes: the extent of the lattice (X, Y, Z).
        shifts: J shifts of the channels.
        geometry: of the window, odd sizes.
        join: dtype of `x`, [A, C], what each channel's branches are multiplied with and added up,
            or None.
        bias: dtype of `x`, [C], added to joined branches, or None.

    Returns:
        float [N, A C], joined [N, C].

    Raises:
        ValueError: a site lies beyond the lattice.
    """
    book = x.topology.rulebook(x.level, x.level, geometry)
    return dim_conv(
        x.features,
        torch.cat([bank.flatten() for bank in banks]),
        x.coords,
        book.in_rows,
        book.out_rows,
        book.segments,
        list(geometry.size),
        list(planes),
        list(shifts),
        list(axes),
        join=join,
        bias=bias,
        symmetric=book.symmetric,
    )
