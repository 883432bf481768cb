"""Shuffled grouped convolution: a grouped one whose outputs are dealt out to all groups."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv.functional.shuffle import shuffle_channels
from sparseconv.geometry import Triple, triple
from sparseconv.nn.conv._sites import Padding, SitedConvolution
from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor


class ShuffledGroupConv3d(nn.Module):
    """Convolve group by group, then exchange channels between the groups.

    With n = D / G outputs a group, output channel `j G + i` is output j of group i. The next
    grouped layer then reads from all groups of this one.

    Args:
        in_channels: C.
        out_channels: D.
        groups: G, a divisor of C and D.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, `"same"`, `"valid"`, or `"subm"` to keep the input's
            sites.
        dilation: voxels between taps, an int or three.
        bias: whether to add a bias.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Source:
        Zhang et al., "ShuffleNet", arXiv:1707.01083, section 3.1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        groups: int,
        kernel_size: int | Sequence[int] = 1,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        bias: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        if triple("kernel_size", kernel_size, least=1) == (1, 1, 1) and padding in (0, "subm"):
            # no rulebook is built for one tap
            self.conv = PointwiseConv3d(
                in_channels, out_channels, bias, stride=stride, groups=groups, **factory
            )
        else:
            self.conv = SitedConvolution(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                padding,
                dilation,
                groups,
                bias,
                **factory,
            )

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:  # [M, D] or [B, D, X', Y', Z']
        """Convolve and shuffle."""
        return shuffle_channels(self.conv(x), self.conv.groups)


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    groups = math.gcd(in_channels, out_channels, 4)
    return ShuffledGroupConv3d(in_channels, out_channels, groups, 3, padding="subm")


FAMILIES = (
    Family(
        number=15,
        key="shuffled_group",
        title="Shuffled grouped convolution",
        layer=ShuffledGroupConv3d,
        paper="arXiv:1707.01083",
        summary="A grouped convolution whose output channels are dealt out to all groups, so that "
        "the next grouped layer reads from every one.",
        formula="y[n, j G + i] = b + sum over taps t of W[t, i, j] x[site(n) + offset(t), group i]",
        on_sparse="Absent neighbours add 0; exchanging channels touches no neighbour.",
        use_when="In stacks of grouped layers, whose groups would otherwise never meet.",
        primitives=("rulebook", "conv"),
        make=_make,
    ),
)
