"""Convolutions that either keep their sites or make those of the regular convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.functional.conv import conv3d, submanifold_conv3d
from sparseconv.functional.normed import Norm
from sparseconv.geometry import triple
from sparseconv.nn.conv._base import Convolution
from sparseconv.tensor.sparse_tensor import SparseTensor

Padding = int | Sequence[int] | str


def sited(padding: Padding, stride: int | Sequence[int]) -> tuple[bool, Padding]:
    """Return whether the input's sites are kept, and the padding of the kernel's geometry.

    Raises:
        ValueError: `padding="subm"` with a stride other than 1.
    """
    if padding != "subm":
        return False, padding
    if triple("stride", stride, least=1) != (1, 1, 1):
        expected, found = "a number where stride is not 1", f"'subm' with stride {stride}"
        raise ValueError(complain("padding", expected, found, "give the padding in voxels"))
    return True, "same"


class SitedConvolution(Convolution):
    """A convolution whose padding may be `"subm"`: output sites are then the input sites.

    Any other padding gives the sites of `SparseConv3d`. Arguments otherwise as for `Convolution`.

    Raises:
        ValueError: `padding="subm"` with a stride other than 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        keeps_sites, padding = sited(padding, stride)
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
        self.keeps_sites = keeps_sites

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
            [M, D], or dense [B, D, X', Y', Z'].
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            return self.finish_dense(self.dense_conv3d(x), add, relu)
        return self.convolve(x, self.weight, self.groups, norm, add, relu)

    def convolve(
        self,
        x: SparseTensor,  # [N, C]
        weight: Tensor,  # [D, C / G, kx, ky, kz]
        groups: int,
        norm: Norm | None,
        add: SparseTensor | None,  # [M, D]
        relu: bool,
    ) -> SparseTensor:  # [M, D]
        """Convolve a sparse tensor onto the sites the padding asks for."""
        run = submanifold_conv3d if self.keeps_sites else conv3d
        return run(
            x,
            weight,
            self.bias,
            self.geometry,
            groups=groups,
            norm=norm,
            add=None if add is None else add.features,
            relu=relu,
        )

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        text = super().extra_repr()
        if not self.keeps_sites:
            return text
        return text.replace(f", padding={self.padding}", "") + ", padding='subm'"
