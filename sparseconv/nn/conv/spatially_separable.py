"""Spatially separable convolution: three lines along the axes instead of a cube."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.conv import conv3d, submanifold_conv3d
from sparseconv.geometry import Geometry, Triple, triple
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv._sites import SitedConvolution
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor

MODES = ("submanifold", "expand", "compose")
AXES = {"x": 0, "y": 1, "z": 2}


class SpatiallySeparableConv3d(ChecksInput, nn.Module):
    """Convolve along one axis after another: (k, 1, 1), (1, k, 1), (1, 1, k).

    3 k taps instead of k^3. On a full grid it is the convolution whose kernel is the product of
    the three lines, `W[d, c] = sum over m, m' of C[d, m'] B[m', m] A[m, c]`. On sparse sites it
    depends on what carries the values in between:

    - `"submanifold"`: the sites of the input. Cheap, and sites stay; but a neighbour around a
      corner whose own site is absent is not reached, so the product kernel is met on full grids
      alone.
    - `"expand"`: all sites the lines reach, up to kx ky times as many; the result is read at the
      output sites. Exact.
    - `"compose"`: none. The product kernel is applied at once, with all its k^3 taps. Exact.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three; each axis' in its own convolution, padded by
            `dilation * (kernel_size - 1) // 2`. Not in mode `"submanifold"`.
        dilation: voxels between taps, an int or three.
        mid_channels: channels between the convolutions; None for D.
        order: in which order the axes come, such as `"xyz"`.
        depthwise: whether each channel is convolved by itself; all channel counts are then equal.
        bias: whether the last of the three adds a bias.
        intermediate: `"submanifold"`, `"expand"` or `"compose"`.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Source:
        Mamalet and Garcia, "Simplifying ConvNets for Fast Learning", ICANN 2012; Szegedy et al.,
        arXiv:1512.00567, section 3.2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        dilation: int | Sequence[int] = 1,
        mid_channels: int | None = None,
        order: str = "xyz",
        depthwise: bool = False,
        bias: bool = True,
        intermediate: str = "submanifold",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if intermediate not in MODES:
            raise ValueError(complain("intermediate", f"one of {MODES}", repr(intermediate)))
        if not isinstance(order, str) or sorted(order) != sorted(AXES):
            raise ValueError(complain("order", "the letters x, y and z", repr(order)))
        size = triple("kernel_size", kernel_size, least=1)
        step, gap = triple("stride", stride, least=1), triple("dilation", dilation, least=1)
        self.keeps_sites = step == (1, 1, 1)
        if intermediate == "submanifold" and not self.keeps_sites:
            raise ValueError(
                complain(
                    "intermediate",
                    "'expand' or 'compose' where stride is not 1",
                    f"'submanifold' with stride {step}",
                )
            )
        middle = out_channels if mid_channels is None else mid_channels
        if depthwise and not in_channels == middle == out_channels:
            raise ValueError(
                complain(
                    "depthwise",
                    "equal in_channels, mid_channels and out_channels",
                    f"{in_channels}, {middle} and {out_channels}",
                )
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.groups = in_channels if depthwise else 1
        self.order, self.intermediate = order, intermediate
        half = tuple(d * (k - 1) // 2 for k, d in zip(size, gap, strict=True))
        self.geometry = Geometry.make(size, step, "same" if self.keeps_sites else half, gap)
        widths = (in_channels, middle, middle, out_channels)
        self.lines = nn.ModuleList()
        for place, axis in enumerate(AXES[letter] for letter in order):
            self.lines.append(
                SitedConvolution(
                    widths[place],
                    widths[place + 1],
                    _only(size, axis, 1),
                    _only(step, axis, 1),
                    "subm" if self.keeps_sites else _only(half, axis, 0),
                    _only(gap, axis, 1),
                    self.groups,
                    bias and place == 2,
                    device=device,
                    dtype=dtype,
                )
            )

    def product_kernel(self) -> Tensor:  # [D, C / G, kx, ky, kz]
        """Return the weight of the full convolution that the three lines make up."""
        first, second, third = (line.weight.flatten(2) for line in self.lines)
        if self.groups > 1:
            kernel = torch.einsum("dca,dcb,dce->dcabe", first, second, third)
        else:
            kernel = torch.einsum("nmb,mca->ncab", second, first)
            kernel = torch.einsum("dne,ncab->dcabe", third, kernel)
        return kernel.permute(0, 1, *(2 + self.order.index(letter) for letter in AXES))

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].

        Returns:
            [N, D] at the sites of `x`; with a stride [M, D] at those of `SparseConv3d`; or dense
            [B, D, X', Y', Z'].
        """
        self.check_input(x)
        first, second, third = self.lines
        if isinstance(x, Tensor) or self.intermediate == "submanifold":
            return third(second(first(x)))
        if self.intermediate == "compose":
            run = submanifold_conv3d if self.keeps_sites else conv3d
            kernel = self.product_kernel()
            return run(x, kernel, third.bias, self.geometry, groups=self.groups)
        sites = x
        if not self.keeps_sites:
            sites = SparseTensor.at(x.topology, x.topology.down(x.level, self.geometry), x.features)
        y = x
        for line in (first, second):
            y = conv3d(y, line.weight, None, line.geometry, groups=self.groups)
        return conv3d(y, third.weight, third.bias, third.geometry, groups=self.groups, sites=sites)

    def extra_repr(self) -> str:
        """Return the order of the axes and what carries the values in between."""
        return f"order={self.order!r}, intermediate={self.intermediate!r}"


def _only(values: Triple, axis: int, other: int) -> Triple:
    """Return the value of one axis, and `other` along the rest."""
    x, y, z = (value if a == axis else other for a, value in enumerate(values))
    return x, y, z


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return SpatiallySeparableConv3d(in_channels, out_channels, 3)


FAMILIES = (
    Family(
        number=12,
        key="spatially_separable",
        title="Spatially separable convolution",
        layer=SpatiallySeparableConv3d,
        paper="Mamalet and Garcia, ICANN 2012; arXiv:1512.00567",
        summary="Three convolutions along x, y and z, one after another, instead of one with a "
        "cube of taps.",
        formula="y = C along z of B along y of A along x of x, + b: on a full grid the kernel "
        "W[d, c, i, j, k] = sum over m, m' of C[d, m', k] B[m', m, j] A[m, c, i]",
        on_sparse="In between only active sites carry values: a neighbour around a corner whose "
        "site is absent is not reached, so it is no rank-one kernel off full grids. "
        "intermediate='expand' or 'compose' are exact, for more work.",
        use_when="For a third of the weights and products of a full kernel, more for large ones.",
        primitives=("rulebook", "conv"),
        make=_make,
    ),
)
