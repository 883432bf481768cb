"""Inception: towers that mix channels first and look around then, side by side."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as dense

from sparseconv._errors import complain
from sparseconv.functional.pool import max_pool3d_at_sites
from sparseconv.geometry import Geometry, Triple, triple
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv._norms import norm_named
from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.family import Family
from sparseconv.nn.on_rows import on_rows
from sparseconv.tensor.sparse_tensor import SparseTensor

POOLED = Geometry.submanifold(3)


class _Tower(nn.Module):
    """A chain of convolutions, each with its norm and activation; a pool may come first."""

    def __init__(
        self,
        layers: Sequence[nn.Module],
        norm: str | None,
        act: nn.Module | None,
        pools: bool,
        factory: dict,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(norm_named(norm, m.out_channels, **factory) for m in layers)
        act = nn.Identity() if act is None else act
        self.acts = nn.ModuleList(copy.deepcopy(act) for _ in layers)
        self.pools = pools

    def forward(self, x: SparseTensor | Tensor) -> SparseTensor | Tensor:
        if self.pools and isinstance(x, SparseTensor):
            x = max_pool3d_at_sites(x, POOLED)
        elif self.pools:
            x = dense.max_pool3d(x, 3, 1, 1)
        for layer, norm, act in zip(self.layers, self.norms, self.acts, strict=True):
            x = on_rows(act, on_rows(norm, layer(x)))
        return x


class InceptionConv3d(ChecksInput, nn.Module):
    """Towers side by side, each a pointwise convolution and a submanifold one behind it.

    `y[n] = concat over towers i of b_i + sum over taps t of W_i[t] (P_i x[site(n) + offset(t)] +
    p_i)`: cross-channel and spatial structure are learned apart. A tower of kernel 1 is its
    pointwise convolution alone. With kernels (1, 3, 5) and a pool tower it is GoogLeNet's module,
    with equal kernels Xception's simplified one.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_sizes: taps per axis of each tower, ints or threes.
        mid_channels: channels between the two convolutions of a tower, one number for all or one
            a tower; None for the tower's outputs.
        out_split: output channels of each tower, the pool tower's last; None for equal parts, the
            first taking what is left over.
        pool_tower: whether to add a tower that takes the maximum over the 3 x 3 x 3 active
            neighbours of each site and maps it; absent neighbours do not count as 0.
        norm: behind every convolution: `"batch"`, `"layer"` or None.
        act: a module behind every norm, of which copies are made; None for none.
        bias: whether the convolutions add a bias.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Source:
        Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842; Chollet, "Xception",
        arXiv:1610.02357, section 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_sizes: Sequence[int | Sequence[int]] = (3, 3, 3),
        mid_channels: int | Sequence[int] | None = None,
        out_split: Sequence[int] | None = None,
        pool_tower: bool = False,
        norm: str | None = None,
        act: nn.Module | None = None,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = [triple("kernel_sizes", size, least=1) for size in kernel_sizes]
        count = len(sizes) + pool_tower
        if not count:
            raise ValueError(complain("kernel_sizes", "at least one tower", "none"))
        if out_split is None:
            out_split = [out_channels // count] * count
            out_split[0] += out_channels - sum(out_split)
        out_split = list(out_split)
        if len(out_split) != count or sum(out_split) != out_channels or min(out_split) < 1:
            raise ValueError(
                complain(
                    "out_split",
                    f"{count} numbers >= 1, one a tower, that add up to {out_channels}",
                    f"{out_split}",
                )
            )
        if mid_channels is None or isinstance(mid_channels, int):
            middles = [mid_channels or width for width in out_split[: len(sizes)]]
        else:
            middles = list(mid_channels)
        if len(middles) != len(sizes):
            raise ValueError(
                complain("mid_channels", f"{len(sizes)} numbers, one a kernel size", f"{middles}")
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        factory = {"device": device, "dtype": dtype}
        towers = []
        for size, middle, width in zip(sizes, middles, out_split, strict=False):
            if size == (1, 1, 1):
                layers = [PointwiseConv3d(in_channels, width, bias, **factory)]
            else:
                layers = [
                    PointwiseConv3d(in_channels, middle, bias, **factory),
                    SubMConv3d(middle, width, size, bias=bias, **factory),
                ]
            towers.append(_Tower(layers, norm, act, False, factory))
        if pool_tower:
            layers = [PointwiseConv3d(in_channels, out_split[-1], bias, **factory)]
            towers.append(_Tower(layers, norm, act, True, factory))
        self.towers = nn.ModuleList(towers)

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Apply the towers and lay their channels side by side.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].

        Returns:
            [N, D] at the sites of `x`, or dense [B, D, X, Y, Z].
        """
        self.check_input(x)
        parts = [tower(x) for tower in self.towers]
        if isinstance(x, SparseTensor):
            return x.replace(features=torch.cat([part.features for part in parts], 1))
        return torch.cat(parts, 1)


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return InceptionConv3d(in_channels, out_channels, (1, 3, 5), pool_tower=True)


FAMILIES = (
    Family(
        number=14,
        key="inception",
        title="Spatial and cross-channel convolutions (Inception)",
        layer=InceptionConv3d,
        paper="arXiv:1409.4842, arXiv:1610.02357",
        summary="Towers side by side: each mixes the channels, then looks around with a kernel of "
        "its own size; their outputs are laid side by side.",
        formula="y[n] = concat over towers i of b_i + sum over taps t of W_i[t] (P_i x + p_i)"
        "[site(n) + offset(t)]",
        on_sparse="Absent neighbours add 0, the pointwise bias included, which a dense chain "
        "leaks from empty cells; the pool tower takes the maximum over present neighbours.",
        use_when="Where structures of several sizes matter in one layer.",
        primitives=("cube_rulebook", "rulebook", "conv", "pool_max"),
        make=_make,
    ),
)
