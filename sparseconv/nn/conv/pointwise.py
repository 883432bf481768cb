"""Pointwise convolution: a linear map of every site's channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv.functional.conv import conv3d
from sparseconv.functional.linear import traceable_linear
from sparseconv.functional.normed import Norm
from sparseconv.geometry import Triple
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor


class PointwiseConv3d(Convolution):
    """Map the channels of every site, which meets no other: kernel 1.

    `y[n] = W x[n] + b`. Equals `torch.nn.Conv3d(kernel_size=1)` of the zero-filled grid at the
    sites; elsewhere the dense result is the bias, here there is nothing. No rulebook is built
    for it. With a stride, the sites that are multiples of it stay.

    Args:
        in_channels: C.
        out_channels: D.
        bias: whether to add a bias.
        stride: voxels, an int or three.
        groups: G.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Source:
        Lin, Chen, Yan, "Network in Network", arXiv:1312.4400.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = True,
        *,
        stride: int | Sequence[int] = 1,
        groups: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            1,
            stride,
            groups=groups,
            bias=bias,
            device=device,
            dtype=dtype,
        )

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
        *,
        norm: Norm | None = None,
        add: SparseTensor | Tensor | None = None,
        relu: bool = False,
    ) -> SparseTensor | Tensor:
        """Map every site.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].
            norm: normalises the result (sparse input only).
            add: added to the result, which has its shape.
            relu: whether to clip the sum below at 0.

        Returns:
            [N, D] at the sites of `x`, or with a stride [M, D]; or dense [B, D, X', Y', Z'].
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            return self.finish_dense(self.dense_conv3d(x), add, relu)
        residual = None if add is None else add.features
        if self.stride == (1, 1, 1):
            y = traceable_linear(
                x.features,
                self.weight.flatten(1),
                self.bias,
                self.groups,
                norm=norm,
                residual=residual,
                relu=relu,
            )
            return x.replace(features=y)
        return conv3d(
            x,
            self.weight,
            self.bias,
            self.geometry,
            groups=self.groups,
            norm=norm,
            add=residual,
            relu=relu,
        )

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        return super().extra_repr().replace(", kernel_size=(1, 1, 1)", "")


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return PointwiseConv3d(in_channels, out_channels)


FAMILIES = (
    Family(
        number=4,
        key="pointwise",
        title="1x1x1 (pointwise) convolution",
        layer=PointwiseConv3d,
        paper="arXiv:1312.4400",
        summary="A linear map of the channels of each site.",
        formula="y[n] = W x[n] + b",
        on_sparse="No neighbour is read, so nothing can be absent; the bias is added at active "
        "sites alone, where a dense layer adds it to empty cells too.",
        use_when="To change the number of channels, and to mix them behind layers that do not.",
        primitives=("conv",),
        make=_make,
    ),
)
