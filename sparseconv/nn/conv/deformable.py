"""Deformable convolution, versions 1 and 2: taps that move to where the input tells them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.full_grid import on_full_grid
from sparseconv.functional.sample import dead_fraction, moved_conv3d
from sparseconv.geometry import Triple
from sparseconv.nn.conv._heads import Heads
from sparseconv.nn.conv._sites import Padding, SitedConvolution
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor


class DeformConv3d(SitedConvolution):
    """Convolve with taps that a second convolution moves, site by site.

    `y[o] = b + sum over taps t of W[t] m[o, t] x(o * stride - padding + t * dilation + d[o, t])`,
    with offsets `d = conv_offset(x)` in voxels, one triple (dx, dy, dz) for every tap and group of
    input channels, and `m = 1`, or with `modulated` the sigmoid of further channels of
    `conv_offset`. `x(p)` is trilinear between the eight sites around p. `conv_offset` begins at 0:
    the layer then is a plain convolution, and half of one where it is modulated.

    A site that is absent adds 0, so that the layer equals its dense form on the zero-filled grid at
    any occupancy. Offsets may lead into empty space, where their gradient is exactly 0 and they
    stay; `dead_fraction(x)` tells how many are there, `max_offset` keeps them near.
    The offsets learn best at a tenth of the other parameters' rate: give `conv_offset.parameters()`
    a group of their own in the optimiser, or `offset_lr_mult=0.1`. Second derivatives are not
    offered.

    `conv_offset` numbers its channels as torchvision does: offset group by offset group, tap by
    tap, dx, dy, dz; then the masks, group by group, tap by tap.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, `"same"`, `"valid"`, or `"subm"` to keep the input's
            sites.
        dilation: voxels between taps, an int or three.
        groups: G, of input and output channels.
        offset_groups: H, groups of input channels with offsets of their own.
        bias: whether to add a bias.
        modulated: whether every tap is weighed by a mask (version 2).
        max_offset: voxels no offset goes beyond: d becomes `max_offset * tanh(d / max_offset)`; or
            None.
        offset_lr_mult: what gradients of `conv_offset`'s parameters are multiplied by: with plain
            gradient descent a learning rate of their own. An optimiser that divides by the
            gradients' size, as Adam does, undoes it.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range; the message names it.

    Source:
        Dai et al., "Deformable Convolutional Networks", arXiv:1703.06211; Zhu et al., "Deformable
        ConvNets v2", arXiv:1811.11168. Planar there; the third axis is this library's.
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
        offset_groups: int = 1,
        bias: bool = True,
        *,
        modulated: bool = False,
        max_offset: float | None = None,
        offset_lr_mult: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory = {"device": device, "dtype": dtype}
        shape = kernel_size, stride, padding, dilation
        super().__init__(in_channels, out_channels, *shape, groups, bias, **factory)
        if not isinstance(offset_groups, int) or offset_groups < 1 or in_channels % offset_groups:
            expected = f"a divisor of in_channels {in_channels}"
            raise ValueError(complain("offset_groups", expected, repr(offset_groups)))
        if max_offset is not None and not max_offset > 0:
            raise ValueError(complain("max_offset", "voxels above 0, or None", repr(max_offset)))
        self.offset_groups, self.modulated, self.max_offset = offset_groups, modulated, max_offset
        heads = (4 if modulated else 3) * offset_groups * self.geometry.taps
        # a tensor, for a traced graph takes every number of a module for one that may change
        limit = None if max_offset is None else torch.tensor(float(max_offset), **factory)
        self.register_buffer("limit", limit, persistent=False)
        slowly = {"offset_lr_mult": offset_lr_mult}
        self.conv_offset = Heads(in_channels, heads, *shape, **slowly, **factory)
        self.offset_lr_mult = offset_lr_mult

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
        sites: SparseTensor | None = None,
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].
            sites: a tensor whose sites the result shall have (sparse input only).

        Returns:
            [M, D], or dense [B, D, X', Y', Z'].
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            return on_full_grid(self, x)
        out = self.conv_offset.onto(x, sites)
        heads = out.features
        if self.limit is not None:
            heads = self._held(heads)
        given = self.weight, self.bias, self.geometry, out
        return moved_conv3d(x, heads, *given, parts=self.offset_groups, groups=self.groups)

    def _held(
        self,
        heads: Tensor,  # [M, R]
    ) -> Tensor:  # [M, R]
        """Keep offsets near."""
        # an offset in 16 bits is coarse enough: its tanh is made of float32
        wide = heads.to(torch.promote_types(heads.dtype, torch.float32))
        count = 3 * self.offset_groups * self.geometry.taps
        near = self.limit * torch.tanh(wide[:, :count] / self.limit)
        return torch.cat([near, wide[:, count:]], 1) if self.modulated else near

    def heads(
        self,
        x: SparseTensor,  # [N, C]
        sites: SparseTensor | None = None,
    ) -> tuple[SparseTensor, Tensor, Tensor | None]:
        """Predict offsets and masks.

        Args:
            x: [N, C].
            sites: as for `forward`.

        Returns:
            A tensor at the output sites; offsets [M, K, H, 3] in voxels; masks [M, K, H] or None.
        """
        out = self.conv_offset.onto(x, sites)
        heads, taps, parts = out.features, self.geometry.taps, self.offset_groups
        if self.limit is not None:
            heads = self._held(heads)
        of_taps, *rest = heads.split([3 * parts * taps] + [parts * taps] * self.modulated, 1)
        offsets = of_taps.reshape(-1, parts, taps, 3).transpose(1, 2)
        mask = None
        if self.modulated:
            mask = torch.sigmoid(rest[0].reshape(-1, parts, taps).transpose(1, 2))
        return out, offsets, mask

    @torch.no_grad()
    def dead_fraction(
        self,
        x: SparseTensor,  # [N, C]
        sites: SparseTensor | None = None,
    ) -> Tensor:  # []
        """Return the fraction of moved taps about which no site is active, to be logged.

        Args:
            x: [N, C].
            sites: as for `forward`.

        Returns:
            A number of 0 to 1, a tensor without axes.
        """
        self.check_input(x)
        out, offsets, _ = self.heads(x, sites)
        return dead_fraction(x, offsets, self.geometry, out)

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        text = super().extra_repr()
        defaults = {"offset_groups": 1, "modulated": False, "max_offset": None}
        defaults["offset_lr_mult"] = 1
        for name, usual in defaults.items():
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)}"
        return text


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return DeformConv3d(in_channels, out_channels, 3, padding="subm")


def _make_modulated(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return DeformConv3d(in_channels, out_channels, 3, padding="subm", modulated=True)


ON_SPARSE = (
    "A tap is read from the eight sites around it, those that are absent adding 0: the values are "
    "those of the dense layer on the zero-filled grid. Taps that wander into empty space read 0 "
    "and get no gradient; `dead_fraction(x)` counts them and `max_offset` holds them."
)

FAMILIES = (
    Family(
        number=22,
        key="deformable",
        title="Deformable convolution (v1)",
        layer=DeformConv3d,
        paper="arXiv:1703.06211",
        summary="A second convolution moves every tap of every site by an offset of its own; the "
        "taps then read between the sites.",
        formula="y[n] = b + sum over taps t of W[t] x(site(n) + offset(t) + d[n, t]), "
        "d = conv_offset(x)",
        on_sparse=ON_SPARSE,
        use_when="Where shapes bend or come in many sizes and a fixed cube of taps fits none of "
        "them; all 27 taps are at work, so it costs several plain layers.",
        primitives=("block_index", "cube_rulebook", "conv", "deform_conv"),
        make=_make,
    ),
    Family(
        number=23,
        key="deformable_modulated",
        title="Deformable convolution v2 (modulated)",
        layer=DeformConv3d,
        paper="arXiv:1811.11168",
        summary="As version 1, and every moved tap is weighed by a number of 0 to 1 that the input "
        "decides too (`modulated=True`).",
        formula="y[n] = b + sum over taps t of W[t] m[n, t] x(site(n) + offset(t) + d[n, t]), "
        "(d, m) = conv_offset(x), m through a sigmoid",
        on_sparse=ON_SPARSE,
        use_when="Instead of version 1, for one mask a tap more: the net can switch off what a "
        "tap found. It begins as half of a plain convolution.",
        primitives=("block_index", "cube_rulebook", "conv", "deform_conv"),
        make=_make_modulated,
    ),
)
