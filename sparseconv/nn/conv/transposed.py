"""Transposed convolution: the adjoint of the regular one, making its own output sites."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as dense

from sparseconv._errors import complain
from sparseconv.functional.conv import conv_transpose3d
from sparseconv.functional.normed import Norm
from sparseconv.geometry import Triple, triple
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor


class SparseConvTranspose3d(Convolution):
    """Apply the adjoint of a regular convolution onto every site one of its taps reaches.

    `y[o * stride - padding + i * dilation] += W[i]^T x[o]`. Equals `torch.nn.ConvTranspose3d` of
    the zero-filled grid at the output sites. It undoes the shape of a strided convolution, not its
    effect. To return to known sites use `SparseInverseConv3d`, or pass `sites`.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels taken from each side, an int or three.
        output_padding: voxels added at the far side of a bounded lattice, an int or three.
        groups: G.
        bias: whether to add a bias.
        dilation: voxels between taps, an int or three.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Source:
        Dumoulin and Visin, arXiv:1603.07285, chapter 4.
    """

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            device=device,
            dtype=dtype,
        )
        self.output_padding = triple("output_padding", output_padding, least=0)
        for extra, step, spread in zip(
            self.output_padding, self.stride, self.dilation, strict=True
        ):
            if extra >= max(step, spread):
                raise ValueError(
                    complain(
                        "output_padding",
                        "less than stride or dilation",
                        f"{self.output_padding} with stride {self.stride}",
                    )
                )

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
        sites: SparseTensor | None = None,
        *,
        norm: Norm | None = None,
        add: SparseTensor | Tensor | None = None,
        relu: bool = False,
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].
            sites: a tensor whose sites the result shall have (sparse input only).
            norm: normalises the result (sparse input only).
            add: added to the result, which has its shape.
            relu: whether to clip the sum below at 0. Without gradients neither takes a pass of its
                own on sparse input.

        Returns:
            [M, D], or dense [B, D, X', Y', Z'].
        """
        self.check_input(x)
        g = self.geometry
        if isinstance(x, Tensor):
            y = dense.conv_transpose3d(
                x,
                self.weight,
                self.bias,
                g.stride,
                g.padding,
                self.output_padding,
                self.groups,
                g.dilation,
            )
            return self.finish_dense(y, add, relu)
        return conv_transpose3d(
            x,
            self.weight,
            self.bias,
            g,
            output_padding=self.output_padding,
            groups=self.groups,
            sites=sites,
            norm=norm,
            add=None if add is None else add.features,
            relu=relu,
        )


class _AtInputSites(nn.Module):
    """The transposed convolution whose result is read at the sites of its input."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = SparseConvTranspose3d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: SparseTensor | Tensor) -> SparseTensor | Tensor:
        return self.conv(x, x) if isinstance(x, SparseTensor) else self.conv(x)


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return _AtInputSites(in_channels, out_channels)


FAMILIES = (
    Family(
        number=11,
        key="transposed",
        title="Transposed convolution",
        layer=SparseConvTranspose3d,
        paper="arXiv:1603.07285",
        summary="The adjoint of the regular convolution: each site writes to all places its taps "
        "reach.",
        formula="y[o * stride - padding + t * dilation] += W[t]^T x[o], then + b",
        on_sparse="Absent sites write nothing, as on the zero-filled grid. It makes every site a "
        "tap reaches, s^3 times as many for stride s; `SparseInverseConv3d` goes back to known "
        "sites instead. As a drop-in here it is read at the input's own sites.",
        use_when="To go to a finer lattice, and to grow sites in nets that complete scenes.",
        primitives=("rulebook", "conv"),
        make=_make,
    ),
)
