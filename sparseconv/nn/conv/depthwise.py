"""Depthwise convolution: every channel has a kernel of its own and reads no other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.normed import Norm
from sparseconv.geometry import Triple
from sparseconv.nn.conv._sites import Padding, SitedConvolution
from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.family import Family
from sparseconv.nn.sequential import Sequential
from sparseconv.tensor.sparse_tensor import SparseTensor


class DepthwiseConv3d(SitedConvolution):
    """Convolve each channel with kernels of its own.

    `y[o, c m + j] = b + sum over taps t of W[c m + j, t] x[o * stride - padding + t * dilation, c]`
    for the m kernels j of channel c. Equals `torch.nn.Conv3d(groups=C)` of the zero-filled grid at
    the output sites. Channels meet in the layer behind it.

    Args:
        in_channels: C.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, `"same"`, `"valid"`, or `"subm"` to keep the input's
            sites.
        dilation: voxels between taps, an int or three.
        depth_multiplier: kernels m of each channel; D = C m.
        bias: whether to add a bias.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Source:
        Chollet, "Xception", arXiv:1610.02357; Howard et al., "MobileNets", arXiv:1704.04861.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not isinstance(depth_multiplier, int) or depth_multiplier < 1:
            raise ValueError(complain("depth_multiplier", "an int >= 1", repr(depth_multiplier)))
        super().__init__(
            in_channels,
            in_channels * depth_multiplier if isinstance(in_channels, int) else in_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            in_channels,
            bias,
            device=device,
            dtype=dtype,
        )
        self.depth_multiplier = depth_multiplier

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
        *,
        norm: Norm | None = None,
        add: SparseTensor | Tensor | None = None,
        relu: bool = False,
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].
            norm: normalises the result (sparse input only).
            add: added to the result, which has its shape.
            relu: whether to clip the sum below at 0.

        Returns:
            [M, C m], or dense [B, C m, X', Y', Z'].
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            return self.finish_dense(self.dense_conv3d(x), add, relu)
        if self.depth_multiplier > 1:
            # copies of a channel make it a layer of C m channels, each with one kernel
            copies = x.features[:, :, None].expand(-1, -1, self.depth_multiplier)
            x = x.replace(features=copies.flatten(1))
        return self.convolve(x, self.weight, self.out_channels, norm, add, relu)


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    layer = DepthwiseConv3d(in_channels, 3, padding="subm")
    if in_channels == out_channels:
        return layer
    return Sequential(layer, PointwiseConv3d(in_channels, out_channels))


FAMILIES = (
    Family(
        number=7,
        key="depthwise",
        title="Depthwise convolution",
        layer=DepthwiseConv3d,
        paper="arXiv:1610.02357, arXiv:1704.04861",
        summary="Each channel has kernels of its own and reads no other channel.",
        formula="y[n, c m + j] = b + sum over taps t of W[c m + j, t] x[site(n) + offset(t), c]",
        on_sparse="Absent neighbours add 0, as on the zero-filled grid. A product for every number "
        "read: memory is the limit, not arithmetic.",
        use_when="To look around cheaply; a pointwise layer behind it mixes the channels.",
        primitives=("rulebook", "conv"),
        make=_make,
    ),
)
