"""Submanifold convolution: output sites are input sites."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparseconv.functional.conv import submanifold_conv3d
from sparseconv.nn.conv._base import Convolution
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.sparse_tensor import SparseTensor


class SubMConv3d(Convolution):
    """Convolve at the active sites alone, so that sparsity is kept through any depth.

    `y[n] = b + sum over taps t of W[t] x[site(n) + offset(t)]`, absent neighbours adding nothing;
    offsets are `i * dilation - dilation * (kernel_size - 1) // 2`. Equals
    `torch.nn.Conv3d(padding="same")` of the zero-filled grid at the sites, even kernels included.
    Parts of a scan farther apart than the kernel never exchange anything: strided layers do that.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        dilation: voxels between taps, an int or three.
        groups: G.
        bias: whether to add a bias.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Source:
        Graham and van der Maaten, "Submanifold Sparse Convolutional Networks", arXiv:1706.01307.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        dilation: int | Sequence[int] = 1,
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
            1,
            "same",
            dilation,
            groups,
            bias,
            device=device,
            dtype=dtype,
        )

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
        rulebook: Rulebook | None = None,
        *,
        add: SparseTensor | Tensor | None = None,
        relu: bool = False,
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].
            rulebook: use this one instead of the topology's (sparse input only).
            add: added to the result, which has its shape.
            relu: whether to clip the sum below at 0. Without gradients neither takes a pass of its
                own on sparse input.

        Returns:
            [N, D] at the sites of `x`, or dense [B, D, X, Y, Z].
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            return self.finish_dense(self.dense_conv3d(x), add, relu)
        return submanifold_conv3d(
            x,
            self.weight,
            self.bias,
            self.geometry,
            groups=self.groups,
            rulebook=rulebook,
            add=None if add is None else add.features,
            relu=relu,
        )
