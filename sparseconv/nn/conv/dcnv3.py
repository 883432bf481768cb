"""Deformable convolution, version 3: moved taps weighed by a softmax, groups as in attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.full_grid import on_full_grid
from sparseconv.functional.linear import traceable_linear
from sparseconv.geometry import Triple
from sparseconv.nn.conv._drop_in import with_channels
from sparseconv.nn.conv._normed import LayerNorm, normed
from sparseconv.nn.conv._sampled import SampledLayer, groups_of, projection, zero_
from sparseconv.nn.conv._sites import Padding
from sparseconv.nn.family import Family
from sparseconv.nn.hooks import hooked
from sparseconv.nn.norm import BatchNorm
from sparseconv.tensor.sparse_tensor import SparseTensor

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}
NORMS = ("layer", "batch", None)


class DCNv3_3d(SampledLayer):
    """Sum values at moved taps, weighed by a softmax over the taps, group by group.

    `y[o] = output_proj(z[o])`, `z[o, c] = sum over taps t of m[o, t, g] v(p[o, t, g])[c]` with
    `v = input_proj(x)`, `g = c // (C / G)` and positions about the centre of the window,
    `p[o, t, g] = centre(o) + offset_scale * (tap t * dilation + d[o, t, g])`: the scale is one of
    the grid too. Offsets `d = offset(u)` in voxels and weights `m = softmax over t of mask(u)` are
    made from `u = act(norm(dw_conv(x)))`. `v(p)` is trilinear between the eight sites around p.

    A site that is absent adds 0 and keeps its share of the softmax, as the zeros around an image
    do in the published layer: at a thin surface the sum is then smaller than at a full one. The
    layer equals its dense form where the values v of empty cells are 0 (not the bias of
    `input_proj`). With `renormalize` the share of absent sites goes to those that are there (this
    library's: the published layer has no such option). The heads begin at 0: taps lie where they
    lie, each weighs 1 / K.

    With a stride, offsets and weights are predicted at the output sites (the published module
    cannot be strided). `offset` and `mask` count group by group, tap by tap, then dx, dy, dz.
    Offsets and weights are made where they are used: not even those of one tap are held for all
    sites. Second derivatives are not offered.

    Args:
        channels: C.
        kernel_size: taps per axis, an int or three.
        dw_kernel_size: taps per axis of the depthwise convolution; None for `kernel_size`.
        stride: voxels, an int or three.
        padding: voxels, an int or three, or `"subm"` to keep the input's sites.
        dilation: voxels between taps, an int or three.
        groups: G, a divisor of C.
        offset_scale: of the grid of taps and the offsets.
        act: of u: `"gelu"`, `"relu"` or `"silu"`.
        norm: of u: `"layer"`, `"batch"` or None.
        center_feature_scale: whether to mix z with the site's own value, by a share of each group
            that u decides and that begins at a half.
        remove_center: whether to leave out the tap in the middle.
        renormalize: whether to divide each group's sum by what of its weights fell on sites; 0
            stays where nothing did. A mean over the sites there are, also at thin surfaces.
        offset_lr_mult: what gradients of the parameters that predict offsets are multiplied by:
            with plain gradient descent a learning rate of their own (0.1 is usual). An optimiser
            that divides by the gradients' size, as Adam does, undoes it: give those parameters a
            group.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range; the message names it.

    Source:
        Wang et al., "InternImage: Exploring Large-Scale Vision Foundation Models with Deformable
        Convolutions", arXiv:2211.05778. Planar there; the third axis is this library's.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] = 3,
        dw_kernel_size: int | Sequence[int] | None = None,
        stride: int | Sequence[int] = 1,
        padding: Padding = "subm",
        dilation: int | Sequence[int] = 1,
        groups: int = 4,
        offset_scale: float = 1.0,
        act: str = "gelu",
        norm: str | None = "layer",
        center_feature_scale: bool = False,
        remove_center: bool = False,
        *,
        renormalize: bool = False,
        offset_lr_mult: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory = {"device": device, "dtype": dtype}
        around = kernel_size if dw_kernel_size is None else dw_kernel_size
        shape = kernel_size, stride, padding, dilation
        more = remove_center, around, offset_lr_mult, factory
        super().__init__(channels, *shape, groups, offset_scale, *more)
        self.renormalize = renormalize
        if act not in ACTIVATIONS:
            raise ValueError(complain("act", f"one of {', '.join(ACTIVATIONS)}", repr(act)))
        if norm not in NORMS:
            raise ValueError(complain("norm", "'layer', 'batch' or None", repr(norm)))
        if center_feature_scale and not self.keeps_sites:
            expected, found = "padding='subm', which keeps the sites", f"padding={padding!r}"
            raise ValueError(complain("center_feature_scale", expected, found))
        self.act = ACTIVATIONS[act]()
        if norm == "batch":
            self.norm = BatchNorm(channels, **factory)
        else:
            self.norm = LayerNorm(channels, eps=1e-6, **factory) if norm else nn.Identity()
        self.offset = nn.Linear(channels, 3 * groups * self.taps, **factory)
        self.mask = nn.Linear(channels, groups * self.taps, **factory)
        self.input_proj = projection(channels, True, factory)
        self.output_proj = projection(channels, True, factory)
        self.center_scale = nn.Linear(channels, groups, **factory) if center_feature_scale else None
        for head in (self.offset, self.mask, self.center_scale):
            if head is not None:
                zero_(head)

    def _query(
        self,
        x: SparseTensor,  # [N, C]
        sites: SparseTensor,
    ) -> Tensor:  # [M, C]
        """Return what the heads predict from; nobody outside may get it, see `normed`."""
        near = self.around(x, sites)
        acts = [name for name, kind in ACTIVATIONS.items() if type(self.act) is kind]
        if type(self.norm) is LayerNorm and acts and not hooked(self.norm) | hooked(self.act):
            return normed(near, self.norm.weight, self.norm.bias, acts[0])
        return self.act(self.norm(near))

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        return super().extra_repr() + (", renormalize=True" if self.renormalize else "")

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
            [M, C], or dense [B, C, X', Y', Z'].
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            return on_full_grid(self, x)
        if self.center_scale is not None:
            self.check_target(x, sites)
        out = self.target(x, sites)
        u = self._query(x, out)
        values = traceable_linear(x.features, self.input_proj.weight, self.input_proj.bias)
        heads = (self.offset.weight, self.offset.bias), (self.mask.weight, self.mask.bias)
        z = self.sums(x, values, u, *heads, out, softmax=True, renormalize=self.renormalize)
        y = z.features
        if self.center_scale is not None:
            y = self.blend(y, values, self.center_scale, u)
        y = traceable_linear(y, self.output_proj.weight, self.output_proj.bias)
        return SparseTensor.at(z.topology, z.level, y)


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    layer = DCNv3_3d(in_channels, groups=groups_of(in_channels))
    return with_channels(layer, in_channels, out_channels)


FAMILIES = (
    Family(
        number=24,
        key="dcnv3",
        title="Deformable convolution v3 (InternImage)",
        layer=DCNv3_3d,
        paper="arXiv:2211.05778",
        summary="Every group of channels sums values at taps it moves itself, weighed by a softmax "
        "over the taps: sparse attention with a convolution's grid to begin from.",
        formula="y[n] = W_out z[n] + b, z[n, c] = sum over taps t of m[n, t, g(c)] "
        "v(site(n) + s (tap(t) + d[n, t, g(c)]))[c], v = W_in x + b, d and m from "
        "act(norm(depthwise(x))), m a softmax over t",
        on_sparse="A tap is read from the eight sites around it, those that are absent adding 0 "
        "and keeping their share of the softmax: at first it is a mean over all 27 taps, not over "
        "those there are (`renormalize=True` makes it one over those). Values of empty places are "
        "0, not the projection's bias.",
        use_when="As the token mixer of a block with norms and a residual around it; most of its "
        "work is in the heads, 108 numbers a group and site.",
        primitives=("block_index", "cube_rulebook", "conv", "moved_sum"),
        make=_make,
    ),
)
