"""What layers share that weigh and sum moved taps: where they write, and their heads."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.conv import by_tap, over_rulebook
from sparseconv.functional.linear import traceable_linear
from sparseconv.functional.sample import predicted_samples, tap_grid
from sparseconv.geometry import Geometry, triple
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.conv._heads import rate_of, slowed
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv._sites import Padding, sited
from sparseconv.tensor.sparse_tensor import SparseTensor


class SampledLayer(ChecksInput, nn.Module):
    """Channels, kernel and groups of a layer that sums moved taps; subclasses say how.

    Args:
        channels: C.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, or `"subm"` to keep the input's sites.
        dilation: voxels between taps, an int or three.
        groups: G, a divisor of C.
        offset_scale: of the grid of taps and the offsets.
        remove_center: whether to leave out the tap in the middle.
        dw_kernel_size: taps per axis of the depthwise convolution the heads read from, or None for
            no such convolution.
        offset_lr_mult: what gradients of the parameters that predict offsets are multiplied by.
        factory: `device` and `dtype` of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range; the message names it.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int],
        padding: Padding,
        dilation: int | Sequence[int],
        groups: int,
        offset_scale: float,
        remove_center: bool,
        dw_kernel_size: int | Sequence[int] | None,
        offset_lr_mult: float,
        factory: dict,
    ) -> None:
        super().__init__()
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(complain("channels", "an int >= 1", repr(channels)))
        if not isinstance(groups, int) or groups < 1 or channels % groups:
            raise ValueError(complain("groups", f"a divisor of channels {channels}", repr(groups)))
        if not offset_scale > 0:
            raise ValueError(complain("offset_scale", "a number above 0", repr(offset_scale)))
        self.keeps_sites, padding = sited(padding, stride)
        self.geometry = g = Geometry.make(kernel_size, stride, padding, dilation)
        if remove_center and not all(k % 2 for k in g.size):
            expected = "odd sizes, which have a tap in the middle, for remove_center"
            raise ValueError(complain("kernel_size", expected, repr(kernel_size)))
        self.channels = self.in_channels = channels
        self.groups, self.offset_scale, self.remove_center = groups, offset_scale, remove_center
        self.offset_lr_mult = offset_lr_mult
        grid = tap_grid(g, offset_scale, centre=not remove_center)
        self.taps = grid.shape[0]
        # tensors, for a traced graph takes every number of a module for one that may change
        self.register_buffer("grid", grid.to(**factory), persistent=False)
        scale = torch.tensor(float(offset_scale), **factory)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("rate", rate_of(offset_lr_mult, factory), persistent=False)
        if dw_kernel_size is None:
            self.dw_conv = None
            return
        size = triple("dw_kernel_size", dw_kernel_size, least=1)
        middle = [
            d * (k - 1) // 2 - p for d, k, p in zip(g.dilation, g.size, g.padding, strict=True)
        ]
        near = [(k - 1) // 2 - m for k, m in zip(size, middle, strict=True)]
        if min(near) < 0:
            expected = f"at least {tuple(2 * m + 1 for m in middle)}, to reach the window's centre"
            raise ValueError(complain("dw_kernel_size", expected, f"{size}"))
        # its windows have the centres of the layer's own
        self.dw_conv = Convolution(channels, channels, size, g.stride, near, 1, channels, **factory)

    def target(self, x: SparseTensor, sites: SparseTensor | None) -> SparseTensor:
        """Return a tensor at the output sites; its features mean nothing."""
        if sites is not None:
            return sites
        if self.keeps_sites:
            return x
        level = x.topology.down(x.level, self.geometry)
        count = x.topology.levels[level].coords.shape[0]
        return SparseTensor.at(x.topology, level, x.features.new_zeros(1, 1).expand(count, 1))

    def around(
        self,
        x: SparseTensor,  # [N, C]
        sites: SparseTensor,
    ) -> Tensor:  # [M, C]
        """Return what the depthwise convolution finds at the output sites."""
        conv = self.dw_conv
        if sites.topology is x.topology:
            book = x.topology.rulebook(x.level, sites.level, conv.geometry)
        else:
            g = conv.geometry
            book = x.topology.pairs(x.level, sites.coords, g.offsets, g.stride)
        where = book, sites.topology, sites.level, self.channels
        return over_rulebook(x, by_tap(conv.weight), conv.bias, *where).features

    def sums(
        self,
        x: SparseTensor,
        values: Tensor,  # [N, C]
        query: Tensor,  # [M, C]
        offset: tuple[Tensor, Tensor],  # [3 G K, C], [3 G K]
        mask: tuple[Tensor, Tensor],  # [G K, C], [G K]
        sites: SparseTensor,
        *,
        softmax: bool = False,
        renormalize: bool = False,
    ) -> SparseTensor:  # [M, C]
        """Sum values at the sites of `x`, where and weighed as rows of the query predict.

        Parameters count group by group, tap by tap, those of offsets dx, dy, dz.
        """
        # of voxels, not of features: 16 bits would round the scaled offsets
        wide = torch.promote_types(values.dtype, torch.float32)
        offset = (p.to(wide) * self.scale for p in slowed(*offset, self.rate))
        joined = (torch.cat([a, b.to(wide)]) for a, b in zip(offset, mask, strict=True))
        return predicted_samples(
            x.replace(features=values),
            query,
            *joined,
            self.grid,
            sites,
            self.geometry.stride,
            groups=self.groups,
            softmax=softmax,
            renormalize=renormalize,
        )

    def blend(
        self,
        y: Tensor,  # [M, C]
        values: Tensor,  # [M, C]
        scale: nn.Linear,
        query: Tensor,  # [M, C]
    ) -> Tensor:  # [M, C]
        """Return `y (1 - s) + values s` with a share `s = sigmoid(scale(query))` of each group."""
        share = torch.sigmoid(traceable_linear(query, scale.weight, scale.bias))
        share = share.repeat_interleave(self.channels // self.groups, 1)
        return torch.lerp(y, values.to(y.dtype), share.to(y.dtype))

    def check_target(self, x: SparseTensor, sites: SparseTensor | None) -> None:
        """Refuse sites other than the input's, where only those have what the layer reads.

        Raises:
            ValueError: the output sites are not those of the input.
        """
        if sites is not None and not sites.shares_sites(x):
            cure = "make the layer with a dw_kernel_size and without center_feature_scale"
            raise ValueError(complain("sites", "those of the input", "others", cure))

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        g = self.geometry
        text = f"{self.channels}, kernel_size={g.size}, groups={self.groups}"
        for name, usual in (("stride", (1, 1, 1)), ("dilation", (1, 1, 1))):
            if getattr(g, name) != usual:
                text += f", {name}={getattr(g, name)}"
        text += ", padding='subm'" if self.keeps_sites else f", padding={g.padding}"
        if self.offset_scale != 1:
            text += f", offset_scale={self.offset_scale}"
        if self.offset_lr_mult != 1:
            text += f", offset_lr_mult={self.offset_lr_mult}"
        return text + (", remove_center=True" if self.remove_center else "")


def zero_(module: nn.Module) -> None:
    """Set the parameters of a module to 0."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()


def groups_of(channels: int) -> int:
    """Return a number of groups of some 64 channels: offsets of one take as much as 81 channels."""
    return gcd(channels, max(channels // 64, 1))


def projection(channels: int, bias: bool, factory: dict) -> nn.Linear:
    """Return a linear map from C to C, its weight drawn by Xavier's uniform rule, its bias 0."""
    made = nn.Linear(channels, channels, bias=bias, **factory)
    nn.init.xavier_uniform_(made.weight)
    if bias:
        nn.init.zeros_(made.bias)
    return made
