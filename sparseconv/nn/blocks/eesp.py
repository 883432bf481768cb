"""The block of ESPNetv2: depthwise dilated convolutions side by side, summed up step by step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.full_grid import on_full_grid
from sparseconv.nn.conv.depthwise import DepthwiseConv3d
from sparseconv.nn.conv.group_pointwise import GroupPointwiseConv3d
from sparseconv.nn.norm import BatchNorm
from sparseconv.nn.sequential import Sequential, call
from sparseconv.tensor.sparse_tensor import SparseTensor


class EESPBlock(nn.Module):
    """Reduce, look at K distances at once, add each to the next, merge, and add the input.

    The channels are reduced to D / K by a groupwise pointwise convolution; K depthwise
    convolutions of kernel 3 read that with rates 1, 2, ..., K; branch k is added to branch k + 1,
    which takes away the grid that spread taps leave; the branches, side by side, are normalised
    and merged by a groupwise pointwise convolution, a group for each. Where C = D the input is
    added. Rates whose view of 2 r + 1 voxels passes `receptive_field` become 1.

    Args:
        in_channels: C, a multiple of K.
        out_channels: D, a multiple of K squared.
        branches: K.
        receptive_field: voxels along an axis that a branch may see at most.

    Raises:
        ValueError: the branches do not divide the channels.

    Source:
        Mehta et al., "ESPNetv2", arXiv:1811.11431, figure 1 (c).
    """

    def __init__(
        self, in_channels: int, out_channels: int, branches: int = 4, receptive_field: int = 7
    ) -> None:
        super().__init__()
        if branches < 1 or in_channels % branches or out_channels % branches**2:
            raise ValueError(
                complain(
                    "branches",
                    f"a divisor of in_channels {in_channels}, its square one of out_channels "
                    f"{out_channels}",
                    f"{branches}",
                )
            )
        width = out_channels // branches
        self.rates = sorted(
            rate if 2 * rate + 1 <= receptive_field else 1 for rate in range(1, branches + 1)
        )
        self.reduce = Sequential(
            GroupPointwiseConv3d(in_channels, width, branches), BatchNorm(width), nn.PReLU(width)
        )
        self.branches = nn.ModuleList(
            DepthwiseConv3d(width, 3, 1, "subm", rate, bias=False) for rate in self.rates
        )
        self.merge = Sequential(
            BatchNorm(out_channels),
            nn.PReLU(out_channels),
            GroupPointwiseConv3d(out_channels, out_channels, branches),
            BatchNorm(out_channels),
        )
        self.adds = in_channels == out_channels
        self.act = nn.PReLU(out_channels)

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:  # [N, D] or [B, D, X, Y, Z]
        """Return the block's output at the sites of `x`."""
        if isinstance(x, Tensor):
            return on_full_grid(self.forward, x)
        reduced = self.reduce(x)
        parts: list[SparseTensor] = []
        for branch in self.branches:
            # the branch below is added in the same pass
            parts.append(branch(reduced, add=parts[-1] if parts else None))
        y = self.merge(x.replace(features=torch.cat([part.features for part in parts], 1)))
        return call(self.act, y.replace(features=y.features + x.features) if self.adds else y)
