"""Involution: the kernel of a site is made from the site's own features."""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.full_grid import on_full_grid
from sparseconv.functional.linear import traceable_linear
from sparseconv.functional.parents import block_mean
from sparseconv.functional.taps import neighbour_sum
from sparseconv.geometry import Geometry, Triple
from sparseconv.nn.conv._drop_in import with_channels
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv._norms import norm_named, normed_relu
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor


class Involution3d(ChecksInput, nn.Module):
    """Sum each site's neighbours with a kernel made from the site, shared inside channel groups.

    `y[o, c] = sum over taps t of H[o, t, g(c)] x[site(o) + offset(t), c]`,
    `H[o] = W_1 relu(norm(W_0 x[o])) + b`, `g(c) = c // group_channels`. A convolution turned inside
    out: its kernel differs from site to site and is the same for the channels of a group. Nothing
    is exchanged between channels but through the kernel. With a stride s, outputs are the blocks
    of s^3 voxels that hold a site; the kernel comes from the mean of the sites there are, and the
    neighbours are those of site `o s`.

    Args:
        channels: C.
        kernel_size: taps per axis, an odd int or three.
        stride: voxels, an int.
        group_channels: channels that share a kernel, a divisor of C.
        reduction: r, W_0 having C // r rows (at least 1).
        dilation: voxels between taps, an int or three.
        norm: of the hidden features: `"batch"`, `"layer"` or None.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        ValueError: an argument is out of range.

    Source:
        Li et al., "Involution: Inverting the Inherence of Convolution for Visual Recognition",
        arXiv:2103.06255, of images; here over voxels.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Triple = 3,
        stride: int = 1,
        group_channels: int = 16,
        reduction: int = 4,
        dilation: int | Triple = 1,
        norm: str | None = "batch",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if group_channels < 1 or channels % group_channels:
            expected, cure = f"a divisor of {channels} channels", "such as gcd(channels, 16)"
            raise ValueError(complain("group_channels", expected, f"{group_channels}", cure))
        shape = Geometry.make(kernel_size, 1, "same", dilation)
        if not all(k % 2 for k in shape.size):
            expected = "odd sizes, so that a site is the centre of its kernel"
            raise ValueError(complain("kernel_size", expected, repr(kernel_size)))
        self.geometry = Geometry.make(shape.size, stride, shape.padding, shape.dilation)
        self.in_channels = self.channels = channels
        self.group_channels = group_channels
        self.groups = channels // group_channels
        hidden = max(channels // reduction, 1)
        factory = {"device": device, "dtype": dtype}
        self.reduce = nn.Linear(channels, hidden, bias=False, **factory)
        self.norm = norm_named(norm, hidden, **factory)
        # rows group by group, taps inside
        self.span = nn.Linear(hidden, self.groups * shape.taps, **factory)

    def kernels(
        self,
        features: Tensor,  # [M, C]
    ) -> Tensor:  # [M, K, G]
        """Return the kernel of each site, made from its features."""
        hidden = normed_relu(self.norm, traceable_linear(features, self.reduce.weight, None))
        taps = self.geometry.taps
        # the small matrix is turned, not the many kernels
        weight = self.span.weight.reshape(self.groups, taps, -1).transpose(0, 1)
        bias = self.span.bias.reshape(self.groups, taps).t().reshape(-1)
        spanned = traceable_linear(hidden, weight.reshape(-1, weight.shape[2]), bias)
        return spanned.reshape(features.shape[0], taps, self.groups)

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Return [M, C], or dense [B, C, X', Y', Z'] with every extent n going to ceil(n / s)."""
        self.check_input(x)
        if isinstance(x, Tensor):
            return on_full_grid(self, x)
        centre = x if self.geometry.stride == (1, 1, 1) else block_mean(x, self.geometry.stride)
        return neighbour_sum(x, self.kernels(centre.features), self.geometry, centre.level)

    def extra_repr(self) -> str:
        """Return channels, kernel size, stride, and channels of a group."""
        g = self.geometry
        return (
            f"{self.channels}, kernel_size={g.size}, stride={g.stride}, "
            f"group_channels={self.group_channels}"
        )


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    layer = Involution3d(in_channels, 3, group_channels=gcd(in_channels, 16))
    return with_channels(layer, in_channels, out_channels)


FAMILIES = (
    Family(
        number=33,
        key="involution",
        title="Involution",
        layer=Involution3d,
        paper="arXiv:2103.06255",
        summary="Every site makes its own kernel from its own features, and sums its neighbours "
        "with it; the channels of a group share the kernel.",
        formula="y[o, c] = sum over taps t of H[o, t, g(c)] x[site(o) + offset(t), c], "
        "H[o] = W_1 relu(norm(W_0 x[o])) + b",
        on_sparse="Absent neighbours add 0. With a stride, the kernel comes from the mean of the "
        "sites a block has.",
        use_when="Where what to look at should depend on what a site is, at a tenth of the weights "
        "of a convolution; follow it with a pointwise layer, as it mixes no channels.",
        primitives=("conv", "norm_apply", "tap_sum"),
        make=_make,
    ),
)
