"""Submanifold convolution: output sites are input sites."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv.functional.conv import submanifold_conv3d
from sparseconv.functional.normed import Norm
from sparseconv.geometry import Triple
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.family import Family
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
        norm: Norm | None = None,
        add: SparseTensor | Tensor | None = None,
        relu: bool = False,
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].
            rulebook: use this one instead of the topology's (sparse input only).
            norm: normalises the result (sparse input only).
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
            norm=norm,
            add=None if add is None else add.features,
            relu=relu,
        )


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return SubMConv3d(in_channels, out_channels, 3)


def _make_grouped(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    groups = math.gcd(in_channels, out_channels, 4)
    return SubMConv3d(in_channels, out_channels, 3, groups=groups)


def _make_dilated(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return SubMConv3d(in_channels, out_channels, 3, dilation=2)


FAMILIES = (
    Family(
        number=2,
        key="submanifold",
        title="Submanifold convolution",
        layer=SubMConv3d,
        paper="arXiv:1706.01307, arXiv:1711.10275",
        summary="A convolution at the active sites alone, so that a surface stays a surface.",
        formula="y[n] = b + sum over taps t of W[t] x[site(n) + offset(t)]",
        on_sparse="Absent neighbours add 0: the values are those of the dense layer with "
        "padding='same' on the zero-filled grid, at the sites. Parts of a scan farther apart than "
        "the kernel never exchange anything.",
        use_when="The everyday layer of networks on point clouds, and the yardstick of the others.",
        primitives=("cube_rulebook", "conv"),
        make=_make,
    ),
    Family(
        number=5,
        key="grouped",
        title="Grouped convolution",
        layer=SubMConv3d,
        paper="Krizhevsky et al., NIPS 2012; arXiv:1611.05431",
        summary="Channels are cut into G groups and each group of outputs reads its own group of "
        "inputs alone (`groups=` of every convolution here).",
        formula="y[n, group g] = b[g] + sum over taps t of W[t, g] x[site(n) + offset(t), group g]",
        on_sparse="As the layer it is an argument of: absent neighbours add 0.",
        use_when="To divide weights and work by G in wide layers; mix the groups afterwards, by a "
        "pointwise layer or a shuffle.",
        primitives=("cube_rulebook", "conv"),
        make=_make_grouped,
    ),
    Family(
        number=9,
        key="dilated",
        title="Dilated (a-trous) convolution",
        layer=SubMConv3d,
        paper="arXiv:1511.07122",
        summary="The taps stand d voxels apart, so that the same weights see d times as far "
        "(`dilation=` of every convolution here).",
        formula="y[n] = b + sum over taps t of W[t] x[site(n) + d (t - centre)]",
        on_sparse="Absent neighbours add 0. On thin surfaces most of the spread taps find nothing, "
        "so it sees farther along the surface and little else; sites whose coordinates differ "
        "modulo d never meet in one layer.",
        use_when="For a wider view at the same cost, next to layers of dilation 1.",
        primitives=("rulebook", "conv"),
        make=_make_dilated,
    ),
)
