"""Depthwise separable convolution: look around channel by channel, then mix the channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.geometry import Triple
from sparseconv.nn.conv._norms import norm_named
from sparseconv.nn.conv._sites import Padding
from sparseconv.nn.conv.depthwise import DepthwiseConv3d
from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.family import Family
from sparseconv.nn.on_rows import on_rows
from sparseconv.tensor.sparse_tensor import SparseTensor


class DepthwiseSeparableConv3d(nn.Module):
    """A depthwise convolution and a pointwise one behind it.

    `y[o, d] = b[d] + sum over c of P[d, c] sum over taps t of W[c, t] x[o s - p + t r, c]`: without
    anything in between it is the full convolution whose weight is `P[d, c] W[c, t]`. Norm and
    activation in between, as in MobileNet, act at active sites alone. With `order="pw_dw"` the
    channels are mixed first.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, `"same"`, `"valid"`, or `"subm"` to keep the input's
            sites.
        dilation: voxels between taps, an int or three.
        bias: whether the second of the two adds a bias; the first has none.
        mid_norm: put between the two: `"batch"`, `"layer"` or None.
        mid_act: a module put behind it, such as `ReLU()`; None for none.
        order: `"dw_pw"` or `"pw_dw"`.
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
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
        mid_norm: str | None = None,
        mid_act: nn.Module | None = None,
        order: str = "dw_pw",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if order not in ("dw_pw", "pw_dw"):
            raise ValueError(complain("order", "'dw_pw' or 'pw_dw'", repr(order)))
        depthwise_first = order == "dw_pw"
        middle = in_channels if depthwise_first else out_channels
        factory = {"device": device, "dtype": dtype}
        self.depthwise = DepthwiseConv3d(
            middle,
            kernel_size,
            stride,
            padding,
            dilation,
            bias=bias and not depthwise_first,
            **factory,
        )
        self.pointwise = PointwiseConv3d(
            in_channels, out_channels, bias and depthwise_first, **factory
        )
        self.mid_norm = norm_named(mid_norm, middle, **factory)
        self.mid_act = mid_act
        self.order = order

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:  # [M, D] or [B, D, X', Y', Z']
        """Return the result at the depthwise layer's sites."""
        first, second = self.depthwise, self.pointwise
        if self.order == "pw_dw":
            first, second = second, first
        return second(on_rows(self.mid_act, on_rows(self.mid_norm, first(x))))

    def extra_repr(self) -> str:
        """Return the order where it is not the usual one."""
        return "" if self.order == "dw_pw" else f"order={self.order!r}"


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return DepthwiseSeparableConv3d(in_channels, out_channels, 3, padding="subm")


FAMILIES = (
    Family(
        number=8,
        key="depthwise_separable",
        title="Depthwise separable convolution",
        layer=DepthwiseSeparableConv3d,
        paper="arXiv:1610.02357, arXiv:1704.04861",
        summary="A depthwise convolution looks around, a pointwise one behind it mixes the "
        "channels.",
        formula="y[n, d] = b[d] + sum over c of P[d, c] sum over taps t of W[c, t] "
        "x[site(n) + offset(t), c]",
        on_sparse="Absent neighbours add 0, as on the zero-filled grid; a norm or activation in "
        "between acts at active sites alone. Its products are 1 / D + N / P of a full "
        "convolution's: with few neighbours P / N a site, the saving is smaller than on full "
        "grids.",
        use_when="In small and fast networks, instead of full convolutions.",
        primitives=("rulebook", "conv"),
        make=_make,
    ),
)
