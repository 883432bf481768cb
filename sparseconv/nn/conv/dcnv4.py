"""Deformable convolution, version 4: moved taps with weights that nothing bounds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.full_grid import on_full_grid
from sparseconv.functional.linear import traceable_linear
from sparseconv.geometry import Triple
from sparseconv.nn.conv._drop_in import with_channels
from sparseconv.nn.conv._sampled import SampledLayer, groups_of, projection, zero_
from sparseconv.nn.conv._sites import Padding
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor


class DCNv4_3d(SampledLayer):
    """Sum values at moved taps with weights of each site's own, without a softmax.

    `y[o] = output_proj(z[o])`, `z[o, c] = sum over taps t of m[o, t, g] v(p[o, t, g])[c]` with
    `v = value_proj(x)`, `g = c // (C / G)` and positions about the centre of the window,
    `p[o, t, g] = centre(o) + offset_scale * (tap t * dilation + d[o, t, g])`. Offsets d in voxels
    and weights m, of any size and sign, come from one linear map, of x or of what a depthwise
    convolution finds around the site. `v(p)` is trilinear between the eight sites around p.

    A site that is absent adds 0: nothing is normalised, so the layer equals its dense form where
    the values v of empty cells are 0 (not the bias of `value_proj`).

    The heads begin at 0, and with them the weights m: the result is then `output_proj.bias` at
    every site, and the input gets no gradient in the first step, the heads alone do. Stand it in a
    residual block. As nothing bounds the weights, float16 may overflow.

    `offset_mask` counts group by group: of each the offsets, tap by tap, dx, dy, dz; then the
    weights. What it predicts is made where it is used, and held for no more than a few thousand
    sites. Second derivatives are not offered.

    Args:
        channels: C.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three; other than 1 only with a `dw_kernel_size`, which finds
            something to predict from at the output sites.
        padding: voxels, an int or three, or `"subm"` to keep the input's sites.
        dilation: voxels between taps, an int or three.
        groups: G, a divisor of C.
        offset_scale: of the grid of taps and the offsets.
        dw_kernel_size: taps per axis of the depthwise convolution before the heads; None for none.
        center_feature_scale: whether to mix z with the site's own value, by a share of each group
            that z decides and that begins at a half.
        remove_center: whether to leave out the tap in the middle.
        output_bias: whether `output_proj` has a bias.
        without_pointwise: whether to leave out `value_proj` and `output_proj`.
        offset_lr_mult: what gradients of the parameters that predict offsets are multiplied by:
            with plain gradient descent a learning rate of their own (0.1 is usual). An optimiser
            that divides by the gradients' size, as Adam does, undoes it: give those parameters a
            group.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range; the message names it.

    Source:
        Xiong et al., "Efficient Deformable ConvNets: Rethinking Dynamic and Sparse Operator for
        Vision Applications", arXiv:2401.06197. Planar there; the third axis is this library's.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        padding: Padding = "subm",
        dilation: int | Sequence[int] = 1,
        groups: int = 4,
        offset_scale: float = 1.0,
        dw_kernel_size: int | Sequence[int] | None = None,
        center_feature_scale: bool = False,
        remove_center: bool = False,
        output_bias: bool = True,
        without_pointwise: bool = False,
        *,
        offset_lr_mult: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory = {"device": device, "dtype": dtype}
        shape = kernel_size, stride, padding, dilation
        more = remove_center, dw_kernel_size, offset_lr_mult, factory
        super().__init__(channels, *shape, groups, offset_scale, *more)
        if dw_kernel_size is None and not self.keeps_sites:
            expected = "a size where the sites are not kept (padding other than 'subm')"
            cure = "the heads need something to read at the output sites"
            raise ValueError(complain("dw_kernel_size", expected, "None", cure))
        if center_feature_scale and not self.keeps_sites:
            expected, found = "padding='subm', which keeps the sites", f"padding={padding!r}"
            raise ValueError(complain("center_feature_scale", expected, found))
        self.offset_mask = nn.Linear(channels, 4 * groups * self.taps, **factory)
        plain = without_pointwise
        self.value_proj = None if plain else projection(channels, True, factory)
        self.output_proj = None if plain else projection(channels, output_bias, factory)
        self.center_scale = nn.Linear(channels, groups, **factory) if center_feature_scale else None
        for head in (self.offset_mask, self.center_scale):
            if head is not None:
                zero_(head)

    def heads(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return weight and bias of what predicts offsets, and of what predicts the weights."""
        head, offsets = self.offset_mask, 3 * self.taps
        weight = head.weight.reshape(self.groups, 4 * self.taps, self.channels)
        bias = head.bias.reshape(self.groups, 4 * self.taps)
        split = (slice(None, offsets), slice(offsets, None))
        return tuple((weight[:, rows].flatten(0, 1), bias[:, rows].flatten()) for rows in split)

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
        sites: SparseTensor | None = None,
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].
            sites: a tensor whose sites the result shall have (sparse input only); other ones than
                the input's only with a depthwise convolution.

        Returns:
            [M, C], or dense [B, C, X', Y', Z'].
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            return on_full_grid(self, x)
        if self.center_scale is not None or self.dw_conv is None:
            self.check_target(x, sites)
        out = self.target(x, sites)
        query = x.features if self.dw_conv is None else self.around(x, out)
        values = x.features
        if self.value_proj is not None:
            values = traceable_linear(values, self.value_proj.weight, self.value_proj.bias)
        z = self.sums(x, values, query, *self.heads(), out)
        y = z.features
        if self.center_scale is not None:
            y = self.blend(y, values, self.center_scale, y)
        if self.output_proj is not None:
            y = traceable_linear(y, self.output_proj.weight, self.output_proj.bias)
        return SparseTensor.at(z.topology, z.level, y)


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    layer = DCNv4_3d(in_channels, groups=groups_of(in_channels))
    return with_channels(layer, in_channels, out_channels)


FAMILIES = (
    Family(
        number=25,
        key="dcnv4",
        title="Deformable convolution v4",
        layer=DCNv4_3d,
        paper="arXiv:2401.06197",
        summary="As version 3 without the softmax: the weights of the moved taps are any numbers, "
        "predicted from the site itself by one linear map.",
        formula="y[n] = W_out z[n] + b, z[n, c] = sum over taps t of m[n, t, g(c)] "
        "v(site(n) + s (tap(t) + d[n, t, g(c)]))[c], v = W_in x + b, (d, m) = W x + b",
        on_sparse="A tap is read from the eight sites around it, those that are absent adding 0; "
        "nothing is normalised. Values of empty places are 0, not the projection's bias.",
        use_when="As the token mixer of a residual block, cheaper than version 3 and quicker to "
        "learn. It begins at 0: on its own, without a residual, the input gets no gradient in the "
        "first step.",
        primitives=("block_index", "conv", "moved_sum"),
        make=_make,
    ),
)
