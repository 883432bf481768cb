"""Depthwise dilated separable convolution: look far channel by channel, then mix the channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv.geometry import Triple, triple
from sparseconv.nn.conv._norms import norm_named
from sparseconv.nn.conv._sites import Padding
from sparseconv.nn.conv.depthwise import DepthwiseConv3d
from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.family import Family
from sparseconv.nn.on_rows import on_rows
from sparseconv.tensor.sparse_tensor import SparseTensor


class DepthwiseDilatedSeparableConv3d(nn.Module):
    """A dilated depthwise convolution and a pointwise one, which may be grouped, behind it.

    `y[o, d] = b[d] + sum over c of P[d, c] sum over taps t of W[c, t] x[o s - p + t r, c]`, taps
    r voxels apart: it sees (k - 1) r + 1 voxels along an axis with k taps.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        dilation: voxels r between taps, an int or three.
        stride: voxels, an int or three.
        pw_groups: groups of the pointwise convolution, a divisor of C and D.
        bias: whether the pointwise convolution adds a bias; the depthwise one has none.
        norm: put behind: `"batch"`, `"layer"` or None.
        act: a module put behind that; None for none.
        padding: as for `DepthwiseConv3d`; None for `"subm"`, which keeps the input's sites, or
            with a stride `dilation * (kernel_size - 1) // 2`.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Source:
        Mehta et al., "ESPNetv2", arXiv:1811.11431, section 3.1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int] = 3,
        dilation: int | Sequence[int] = 1,
        stride: int | Sequence[int] = 1,
        pw_groups: int = 1,
        bias: bool = False,
        norm: str | None = None,
        act: nn.Module | None = None,
        *,
        padding: Padding | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        if padding is None:
            padding = "subm"
            if triple("stride", stride, least=1) != (1, 1, 1):
                sizes = triple("kernel_size", kernel_size, least=1)
                gaps = triple("dilation", dilation, least=1)
                padding = tuple(d * (k - 1) // 2 for k, d in zip(sizes, gaps, strict=True))
        self.depthwise = DepthwiseConv3d(
            in_channels, kernel_size, stride, padding, dilation, bias=False, **factory
        )
        self.pointwise = PointwiseConv3d(
            in_channels, out_channels, bias, groups=pw_groups, **factory
        )
        self.norm = norm_named(norm, out_channels, **factory)
        self.act = act

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:  # [M, D] or [B, D, X', Y', Z']
        """Return the result at the depthwise layer's sites."""
        return on_rows(self.act, on_rows(self.norm, self.pointwise(self.depthwise(x))))


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return DepthwiseDilatedSeparableConv3d(in_channels, out_channels, 3, dilation=2, bias=True)


FAMILIES = (
    Family(
        number=10,
        key="dilated_separable",
        title="Depthwise dilated separable convolution",
        layer=DepthwiseDilatedSeparableConv3d,
        paper="arXiv:1811.11431",
        summary="A depthwise convolution with its taps spread apart looks far, a pointwise one "
        "behind it mixes the channels.",
        formula="y[n, d] = b[d] + sum over c of P[d, c] sum over taps t of W[c, t] "
        "x[site(n) + r (t - centre), c]",
        on_sparse="Absent neighbours add 0. On thin surfaces most spread taps find nothing, so "
        "rates beyond 2 or 3 read little.",
        use_when="In parallel branches of different rates (`EESP`), which see several distances at "
        "once for few weights.",
        primitives=("rulebook", "conv"),
        make=_make,
    ),
)
