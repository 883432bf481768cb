"""Inverse convolution: back to the sites a strided convolution came from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as dense

from sparseconv.functional.conv import inverse_conv3d
from sparseconv.functional.normed import Norm
from sparseconv.nn.conv._base import Convolution
from sparseconv.tensor.sparse_tensor import SparseTensor


class SparseInverseConv3d(Convolution):
    """Return to the input sites of the strided convolution that made the sites of `x`.

    `y[i] = b + sum over recorded pairs (i, o) of tap t of W[t]^T x[o]`: the rulebook of that
    convolution, found through the tensor's topology, read backwards. No key is needed; submanifold
    layers in between do not matter. It inverts the sites, not the values.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: that convolution's, an int or three.
        stride: that convolution's, needed for dense input only.
        groups: G.
        bias: whether to add a bias.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Source:
        Graham, Engelcke, van der Maaten, arXiv:1711.10275 (deconvolution).
    """

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        groups: int = 1,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            kernel_size if stride is None else stride,
            0,
            1,
            groups,
            bias,
            device=device,
            dtype=dtype,
        )

    def forward(
        self,
        x: SparseTensor | Tensor,  # [M, C] or [B, C, X, Y, Z]
        *,
        norm: Norm | None = None,
        add: SparseTensor | Tensor | None = None,
        relu: bool = False,
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: sparse [M, C] at sites made by a strided convolution or pooling, or dense
                [B, C, X, Y, Z], which is simply convolved transposed.
            norm: normalises the result (sparse input only).
            add: added to the result, which has its shape.
            relu: whether to clip the sum below at 0. Without gradients neither takes a pass of its
                own on sparse input.

        Returns:
            [N, D] at the sites before that convolution, or dense [B, D, X', Y', Z'].
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            y = dense.conv_transpose3d(x, self.weight, self.bias, self.stride, groups=self.groups)
            return self.finish_dense(y, add, relu)
        return inverse_conv3d(
            x,
            self.weight,
            self.bias,
            groups=self.groups,
            norm=norm,
            add=None if add is None else add.features,
            relu=relu,
        )
