"""Masked convolution: each site reads those before it alone, for autoregressive models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as dense

from sparseconv._errors import complain
from sparseconv.functional.conv import by_tap
from sparseconv.functional.masked import first_taps_conv3d
from sparseconv.functional.normed import Norm
from sparseconv.geometry import Triple
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor

TYPES = ("A", "B")


class MaskedConv3d(Convolution):
    """Convolve at the active sites, reading only what comes before them in raster order.

    `y[n] = b + sum over taps t before the centre of W[t] x[site(n) + offset(t)]`, and of the
    centre what the type allows. Sites are ordered by (x, y, z), x slowest; channels by group, the
    groups being contiguous: type A lets output group i read input groups below i of its own site,
    type B those up to i. A stack of one A and any number of B is then causal: the result of a site
    does not depend on its own features or later ones. That holds of features: which sites are
    active is seen by all, so such a stack models features given the geometry.

    With one group, type A reads 13 taps of 27 and type B 14; the others take no time.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: odd taps per axis, an int or three.
        mask_type: `"A"`, for the first layer, or `"B"`, for all others.
        n_groups: groups of channels with an order, such as 3 for red, green, blue; the same
            number in all layers of a stack, a divisor of C and D.
        dilation: voxels between taps, an int or three.
        groups: G.
        bias: whether to add a bias.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Source:
        van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks",
        arXiv:1601.06759, section 3.4; in three dimensions with x as the slowest axis.
    """

    mask: Tensor  # [D, C / G, kx, ky, kz]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        mask_type: str,
        n_groups: int = 1,
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
        if any(k % 2 == 0 for k in self.kernel_size):
            raise ValueError(
                complain("kernel_size", "odd numbers, which have a centre", f"{self.kernel_size}")
            )
        if mask_type not in TYPES:
            raise ValueError(complain("mask_type", "'A' or 'B'", repr(mask_type)))
        if (
            not isinstance(n_groups, int)
            or n_groups < 1
            or in_channels % n_groups
            or out_channels % n_groups
        ):
            raise ValueError(
                complain(
                    "n_groups",
                    f"a divisor of in_channels {in_channels} and out_channels {out_channels}",
                    repr(n_groups),
                )
            )
        self.mask_type, self.n_groups = mask_type, n_groups
        # not in the state dict, which is torch's; computed on the CPU so that it has values
        # where parameters are made without any
        self.register_buffer("mask", self._mask().to(self.weight), persistent=False)

    @property
    def live_taps(self) -> int:
        """Taps that are read: all before the centre, and the centre where the type allows any."""
        before = self.geometry.taps // 2
        return before + (self.mask_type == "B" or self.n_groups > 1)

    def _mask(self) -> Tensor:  # [D, C / G, kx, ky, kz]
        width, per_group = self.weight.shape[:2]
        of_output = torch.arange(width) * self.n_groups // self.out_channels
        own = torch.arange(width) // (width // self.groups)
        channel = own[:, None] * per_group + torch.arange(per_group)
        of_input = channel * self.n_groups // self.in_channels
        before = of_input < of_output[:, None]
        centre = before | (of_input == of_output[:, None]) if self.mask_type == "B" else before
        taps = self.geometry.taps
        mask = torch.zeros(width, per_group, taps)
        mask[:, :, : taps // 2] = 1
        mask[:, :, taps // 2] = centre.float()
        return mask.reshape(self.weight.shape)

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
        *,
        norm: Norm | None = None,
        add: SparseTensor | Tensor | None = None,
        relu: bool = False,
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].
            norm: normalises the result (sparse input only).
            add: added to the result, which has its shape.
            relu: whether to clip the sum below at 0.

        Returns:
            [N, D] at the sites of `x`, or dense [B, D, X, Y, Z].
        """
        self.check_input(x)
        g = self.geometry
        # masked at every call: weight decay and loaded states may set what is hidden
        if isinstance(x, Tensor):
            weight = self.weight * self.mask
            y = dense.conv3d(x, weight, self.bias, 1, g.padding, g.dilation, self.groups)
            return self.finish_dense(y, add, relu)
        live = self.live_taps
        weight = by_tap(self.weight)[:live]
        if self.n_groups > 1:
            weight = weight * by_tap(self.mask)[:live]
        return first_taps_conv3d(
            x,
            weight,
            self.bias,
            g,
            groups=self.groups,
            norm=norm,
            add=None if add is None else add.features,
            relu=relu,
        )

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        text = f"{super().extra_repr()}, mask_type={self.mask_type!r}"
        return text if self.n_groups == 1 else f"{text}, n_groups={self.n_groups}"


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return MaskedConv3d(in_channels, out_channels, 3, "B")


FAMILIES = (
    Family(
        number=16,
        key="masked",
        title="Masked convolution (types A and B)",
        layer=MaskedConv3d,
        paper="arXiv:1601.06759",
        summary="Each site reads only the sites before it in raster order, and of its own channels "
        "those the type allows.",
        formula="y[n] = b + sum over taps t before the centre of W[t] x[site(n) + offset(t)] "
        "+ (M W[centre]) x[n], M hiding own and later channel groups (A) or later ones (B)",
        on_sparse="Absent neighbours add 0. Features are hidden from earlier sites, the pattern of "
        "active sites is not: a model of features given the geometry.",
        use_when="For autoregressive models: type A once, then type B.",
        primitives=("cube_rulebook", "conv"),
        make=_make,
    ),
)
