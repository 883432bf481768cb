"""Generative convolution: every site gives birth to the sites of its kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparseconv.nn.conv.transposed import SparseConvTranspose3d


class SparseGenerativeConv3d(SparseConvTranspose3d):
    """Upsample by giving each site all the children of its kernel, for nets that complete scenes.

    A transposed convolution whose stride is its kernel size unless said otherwise: kernel 2 turns
    each site into 8. Follow it with `Pruning` to drop the children that should not exist.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        stride: voxels; None for `kernel_size`.
        groups: G.
        bias: whether to add a bias.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Source:
        Gwak, Choy, Savarese, "Generative Sparse Detection Networks for 3D Single-shot Object
        Detection", arXiv:2006.12356, section 4.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int] = 2,
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
            groups=groups,
            bias=bias,
            device=device,
            dtype=dtype,
        )
