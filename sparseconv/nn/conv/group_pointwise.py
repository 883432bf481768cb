"""Groupwise pointwise convolution: a linear map of every site's channels, group by group."""

from __future__ import annotations

import math

import torch
from torch import nn

from sparseconv.geometry import Triple
from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.family import Family


class GroupPointwiseConv3d(PointwiseConv3d):
    """Map each group of channels of every site by a matrix of its own.

    `y[n, group g] = W[g] x[n, group g] + b[g]`, groups being contiguous. Equals
    `torch.nn.Conv3d(kernel_size=1, groups=G)` of the zero-filled grid at the sites, and a
    pointwise layer whose matrix is block-diagonal.

    Args:
        in_channels: C.
        out_channels: D.
        groups: G, a divisor of C and D.
        bias: whether to add a bias.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Source:
        Mehta et al., "ESPNetv2", arXiv:1811.11431, section 3.1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        groups: int,
        bias: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, bias, groups=groups, device=device, dtype=dtype)


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return GroupPointwiseConv3d(in_channels, out_channels, math.gcd(in_channels, out_channels, 4))


FAMILIES = (
    Family(
        number=6,
        key="group_pointwise",
        title="Groupwise pointwise convolution",
        layer=GroupPointwiseConv3d,
        paper="arXiv:1811.11431",
        summary="A linear map of the channels of each site, group by group.",
        formula="y[n, group g] = W[g] x[n, group g] + b[g]",
        on_sparse="No neighbour is read, so nothing can be absent.",
        use_when="To reduce or merge parallel branches at a G-th of the weights of a pointwise "
        "layer.",
        primitives=("conv",),
        make=_make,
    ),
)
