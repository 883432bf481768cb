"""Octave convolution: some channels live on a lattice of half the resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.octave import (
    OctTensor,
    Resolution,
    check_pool,
    exchange,
    join_octaves,
    split_octaves,
)
from sparseconv.geometry import Triple
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.family import Family
from sparseconv.nn.hooks import hooked
from sparseconv.tensor.sparse_tensor import SparseTensor


class OctaveConv3d(ChecksInput, nn.Module):
    """Convolve two parts of the channels at two resolutions, exchanging between them.

    `Y_H = f_HH(X_H) + up(f_LH(X_L))`, `Y_L = f_LL(X_L) + f_HL(pool(X_H))`. The low part lives on
    the parents `floor(site / 2)` of the high part's sites; `pool` is the mean over a parent's
    children, `up` copies a parent to its children, and every f is a submanifold convolution on its
    own sites. What varies slowly is thus stored and computed once per parent. The first layer of a
    net has `alpha_in=0`, the last `alpha_out=0`: they take or give a plain tensor. With stride 2
    inputs are pooled before they are convolved, `X_H` by 4 on its way to the low part. With one
    group, odd kernels, stride 1 and both parts on both sides all four convolutions are one op.

    Args:
        in_channels: C, of both parts.
        out_channels: D, of both parts.
        kernel_size: taps per axis, an int or three.
        alpha_in: share of C that is low, `int(alpha_in * C)`.
        alpha_out: share of D that is low.
        stride: 1 or 2.
        dilation: voxels between taps, an int or three.
        groups: G of each of the four convolutions; C for a depthwise layer, in which the parts do
            not meet.
        bias: whether to add one to each part, on the way from `X_H`.
        pool: mean over the children there are (`"present"`), or over all eight cells
            (`"kernel"`, as on the zero-filled grid).
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        ValueError: an argument is out of range.

    Source:
        Chen et al., "Drop an Octave: Reducing Spatial Redundancy in Convolutional Neural Networks
        with Octave Convolution", arXiv:1904.05049, equation 4, of images; here over voxels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        alpha_in: float = 0.5,
        alpha_out: float = 0.5,
        stride: int = 1,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        pool: str = "present",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("alpha_in", alpha_in), ("alpha_out", alpha_out)):
            if not 0 <= value < 1:
                raise ValueError(complain(name, "a share from 0 to below 1", repr(value)))
        if stride not in (1, 2):
            cure = "put a pooling layer before it"
            raise ValueError(complain("stride", "1 or 2", repr(stride), cure))
        check_pool(pool)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.low_in, self.low_out = int(alpha_in * in_channels), int(alpha_out * out_channels)
        self.stride, self.pool = stride, pool
        high_in, high_out = in_channels - self.low_in, out_channels - self.low_out
        depthwise = groups == in_channels and groups > 1
        if depthwise and (high_in, self.low_in) != (high_out, self.low_out):
            expected = (
                f"{high_in} high and {self.low_in} low channels, as go into a depthwise layer"
            )
            raise ValueError(complain("out_channels", expected, f"{high_out} and {self.low_out}"))
        self.groups = groups

        def path(width_in: int, width_out: int, biased: bool, meets: bool) -> Convolution | None:
            if not width_in or not width_out or (meets and depthwise):
                return None
            shared = width_in if depthwise else groups
            kind = (kernel_size, 1, "same", dilation, shared, biased)
            return Convolution(width_in, width_out, *kind, device=device, dtype=dtype)

        self.high_to_high = path(high_in, high_out, bias, False)
        self.high_to_low = path(high_in, self.low_out, bias, True)
        self.low_to_high = path(self.low_in, high_out, False, True)
        self.low_to_low = path(self.low_in, self.low_out, depthwise and bias, False)

    def forward(
        self,
        x: OctTensor | SparseTensor | Tensor,
    ) -> OctTensor | SparseTensor | Tensor:
        """Convolve.

        Args:
            x: both parts, sparse or dense; a plain tensor where `alpha_in` is 0.

        Returns:
            Both parts; a plain tensor where `alpha_out` is 0.
        """
        high, low = self._parts(x)
        if low is not None and isinstance(high, SparseTensor) and self.exchanges:
            near, far = exchange(high, low, self.paths, self.pool)
            return OctTensor(high.replace(features=near), low.replace(features=far))
        where = Resolution.of(high, self.pool)
        once = self.stride == 2
        near = where.pooled(high, 2) if once else high
        # to the high part, and to the low one: (convolution, input) each
        to_high = [(self.high_to_high, near)]
        to_low = []
        lifted = None
        if low is not None:
            if once:
                to_high.append((self.low_to_high, low))
                to_low.append((self.low_to_low, where.pooled_low(low)))
            else:
                lifted = where.summed([(self.low_to_high, low)])
                to_low.append((self.low_to_low, low))
        if self.high_to_low is not None:
            to_low.append((self.high_to_low, where.pooled(high, 4 if once else 2)))
        done = where.summed(to_high)
        if lifted is not None:
            done = where.plus(done, where.lifted(lifted, high))
        return OctTensor(done, where.summed(to_low)) if self.low_out else done

    @property
    def paths(self) -> tuple[Convolution | None, ...]:
        """From high to high, high to low, low to high and low to low."""
        return self.high_to_high, self.high_to_low, self.low_to_high, self.low_to_low

    @property
    def exchanges(self) -> bool:
        """Whether all four convolutions can be one op."""
        odd = all(size % 2 for size in self.high_to_high.kernel_size)
        return self.stride == 1 and self.groups == 1 and odd and None not in self.paths

    def _parts(
        self, x: OctTensor | SparseTensor | Tensor
    ) -> tuple[SparseTensor | Tensor, SparseTensor | Tensor | None]:
        expected = f"an OctTensor of {self.in_channels - self.low_in} high and {self.low_in} low"
        if not isinstance(x, OctTensor):
            if self.low_in:
                cure = "split it by split_octaves, or let the first layer have alpha_in=0"
                name = "input of OctaveConv3d"
                raise TypeError(complain(name, f"{expected} channels", type(x).__name__, cure))
            self.check_input(x)
            return x, None
        found = x.channels
        if found != (self.in_channels - self.low_in, self.low_in):
            raise ValueError(
                complain("input of OctaveConv3d", f"{expected} channels", f"{found[0]}, {found[1]}")
            )
        x.check()
        return x.high, x.low

    def extra_repr(self) -> str:
        """Return the channels of both parts."""
        high_in, high_out = self.in_channels - self.low_in, self.out_channels - self.low_out
        return f"{high_in}+{self.low_in}, {high_out}+{self.low_out}, stride={self.stride}"


class SplitOctaveConv3d(nn.Module):
    """An octave convolution between plain tensors: it splits its input and joins its output.

    The last `int(alpha * C)` channels are pooled to the low part, and the low part of the result
    is copied to the children as the last `int(alpha * D)` channels. Arguments as for
    `OctaveConv3d`; a net of octave layers keeps the parts apart instead, and norms and activations
    then have less to do.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        alpha: share of the channels that is low.
        **kind: of the octave convolution.

    Source:
        Chen et al., arXiv:1904.05049.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        alpha: float = 0.5,
        **kind: object,
    ) -> None:
        super().__init__()
        self.conv = OctaveConv3d(in_channels, out_channels, kernel_size, alpha, alpha, **kind)

    def forward(self, x: SparseTensor | Tensor) -> SparseTensor | Tensor:
        """Return [N, D] at the sites of `x`, or a dense tensor."""
        conv = self.conv
        conv.check_input(x)
        if isinstance(x, SparseTensor) and conv.exchanges and not hooked(conv):
            return x.replace(features=exchange(x, None, conv.paths, conv.pool)[0])
        parts = split_octaves(x, self.conv.low_in, self.conv.pool) if self.conv.low_in else x
        y = self.conv(parts)
        return join_octaves(y) if isinstance(y, OctTensor) else y


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return SplitOctaveConv3d(in_channels, out_channels, 3)


FAMILIES = (
    Family(
        number=18,
        key="octave",
        title="Octave convolution",
        layer=OctaveConv3d,
        paper="arXiv:1904.05049",
        summary="Part of the channels lives on a lattice of half the resolution; four convolutions "
        "go within and between the two parts.",
        formula="Y_H = f_HH(X_H) + up(f_LH(X_L)), Y_L = f_LL(X_L) + f_HL(pool(X_H))",
        on_sparse="The low part has the parents floor(site / 2) of the high part's sites; pooling "
        "is the mean over the children that are active. The result moves with shifts by even "
        "numbers of voxels alone. In a net, each layer splits its input and joins its output.",
        use_when="To save time and memory where half of the channels vary slowly, and to look "
        "twice as far.",
        primitives=("halve", "cube_rulebook", "pairs_by_row", "octave_conv"),
        make=_make,
        translation=2,
    ),
)
