"""Attention-augmented convolution: some channels look around, the others look everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.attention import attention
from sparseconv.functional.full_grid import on_full_grid
from sparseconv.functional.linear import traceable_linear
from sparseconv.functional.parents import block_centre, parents
from sparseconv.geometry import Geometry, Triple, triple
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.conv.regular import SparseConv3d
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor

# of X + Y + Z, up to which the layer in a net knows relative positions
LONGEST_TABLES = 64


class AAConv3d(ChecksInput, nn.Module):
    """A submanifold convolution and attention among all sites of the scan, side by side.

    `y = [conv(x), W_o [O_1 ... O_H]]`, `O_h[i] = sum over j of softmax over j of
    (<q[i, h], k[j, h] + r_x[jx - ix] + r_y[jy - iy] + r_z[jz - iz]> / sqrt(dk / H)) v[j, h]`, j
    running over the active sites of the scan of i. The tables r of relative positions are shared
    by the heads. They are folded into queries and keys: products with what a query makes of each
    coordinate, one number a cell of each axis, so no matrix of sites by sites is held. Time is
    quadratic in the sites of a scan, and grows with the extents of their lattice where positions
    are relative: a layer for coarse levels. With a stride s, outputs are the blocks of s^3 voxels
    that hold a site; they attend to all sites of x from site `o s`, and where that is absent with
    the mean of their block.

    Args:
        in_channels: C.
        out_channels: D, of which the convolution makes D - dv.
        kernel_size: taps per axis of the convolution, an int or three.
        dk: channels of queries and of keys, all heads together.
        dv: channels of values; 0 for the convolution alone, D for attention alone.
        num_heads: H, a divisor of dk and dv.
        relative: whether logits depend on where sites lie.
        spatial_shape: extent (X, Y, Z) of the largest lattice the layer meets, voxels, an int or
            three; for `relative` alone.
        dilation: of the convolution, voxels.
        groups: of the convolution.
        bias: whether its parts have biases.
        stride: voxels, an int or three.
        clip: whether sites farther apart than `spatial_shape` reaches are taken for as far apart
            as it does, instead of refused; lattices may then be larger.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range, or no extent for relative positions.

    Source:
        Bello et al., "Attention Augmented Convolutional Networks", arXiv:1904.09925; here with a
        third axis.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        dk: int,
        dv: int,
        num_heads: int,
        relative: bool = True,
        spatial_shape: int | Sequence[int] | None = None,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        stride: int | Sequence[int] = 1,
        clip: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= dv <= out_channels:
            raise ValueError(complain("dv", f"0 to out_channels {out_channels}", f"{dv}"))
        if num_heads < 1 or dk < 1 or dk % num_heads or dv % num_heads:
            found = f"{num_heads} heads"
            raise ValueError(complain("num_heads", f"a divisor of dk {dk} and dv {dv}", found))
        factory = {"device": device, "dtype": dtype}
        self.in_channels, self.out_channels = in_channels, out_channels
        self.dk, self.dv, self.num_heads = dk, dv, num_heads
        self.relative, self.clip = relative and dv > 0, clip
        self.stride = triple("stride", stride, least=1)
        self.conv = None
        if dv < out_channels:
            rest = out_channels - dv
            kind = kernel_size, dilation, groups, bias
            if self.stride == (1, 1, 1):
                self.conv = SubMConv3d(in_channels, rest, *kind, **factory)
            else:
                near = Geometry.make(kernel_size, 1, "same", dilation).padding
                kind = kernel_size, self.stride, near, dilation, groups, bias
                self.conv = SparseConv3d(in_channels, rest, *kind, **factory)
        self.qkv = self.out = self.spatial_shape = None
        if dv:
            self.qkv = PointwiseConv3d(in_channels, 2 * dk + dv, bias, **factory)
            self.out = PointwiseConv3d(dv, dv, bias, **factory)
        if self.relative:
            if spatial_shape is None:
                cure = "give the largest lattice the layer meets, or relative=False"
                raise ValueError(complain("spatial_shape", "three extents", "None", cure))
            self.spatial_shape = triple("spatial_shape", spatial_shape, least=1)
            width = dk // num_heads
            for axis, extent in zip("xyz", self.spatial_shape, strict=True):
                table = nn.Parameter(torch.empty(2 * extent - 1, width, **factory))
                nn.init.normal_(table, std=width**-0.5)
                self.register_parameter(f"relative_{axis}", table)

    def _folded(
        self,
        q: Tensor,  # [M, H, E]
        k: Tensor,  # [N, H, E]
        sites: SparseTensor,  # M rows
        x: SparseTensor,  # N rows
    ) -> tuple[Tensor, Tensor]:  # [M, H, E + X + Y + Z], [N, H, E + X + Y + Z]
        """Return queries and keys whose products are those with the tables' entries added."""
        queries, keys = [q], [k]
        count, heads, width = q.shape
        for axis, extent in enumerate(self.spatial_shape):
            table = getattr(self, f"relative_{'xyz'[axis]}")
            at = x.coords[:, 1 + axis].long()
            ours = sites.coords[:, 1 + axis].long() * self.stride[axis]
            length = x.spatial_shape[axis]
            cells = torch.arange(length, device=q.device)
            # differences that this lattice has, or the table
            reach = min(length, extent)
            table = table[extent - reach : extent - 1 + reach]
            # what every query makes of every difference, then of every cell of the axis
            products = traceable_linear(q.reshape(-1, width), table, None)
            products = products.reshape(count, heads, 2 * reach - 1)
            window = (cells - ours[:, None]).clamp(1 - reach, reach - 1) + reach - 1
            queries.append(products.gather(2, window[:, None].expand(-1, heads, -1)))
            keys.append((at[:, None] == cells).to(k.dtype)[:, None].expand(-1, heads, -1))
        queries[0] = queries[0].to(queries[-1].dtype)
        return torch.cat(queries, 2), torch.cat(keys, 2)

    def attend(
        self,
        x: SparseTensor,  # [N, C]
    ) -> SparseTensor:  # [M, dv]
        """Return the part that attention makes, at the sites of `x` or at the blocks."""
        heads, dk = self.num_heads, self.dk
        if self.stride == (1, 1, 1):
            sites = x
            parts = self.qkv(x).features.split((dk, dk, self.dv), 1)
        else:
            sites = block_centre(x, self.stride)
            weight, bias = self.qkv.weight.flatten(1), self.qkv.bias
            own, others = (None, None) if bias is None else (bias[:dk], bias[dk:])
            parts = (
                traceable_linear(sites.features, weight[:dk], own),
                *traceable_linear(x.features, weight[dk:], others).split((dk, self.dv), 1),
            )
        q, k, v = (part.unflatten(1, (heads, -1)) for part in parts)
        scale = (self.dk // heads) ** -0.5
        if self.relative:
            self._check_extent(x)
            # before the products, lest they overflow in 16 bits
            q, k = self._folded(q * scale, k, sites, x)
            scale = 1.0
        y = attention(q, k, v, sites, x, scale)
        return self.out(sites.replace(features=y.flatten(1)))

    def _check_extent(self, x: SparseTensor) -> None:
        shape, ours = x.spatial_shape, self.spatial_shape
        if self.clip and shape is not None:
            return
        if shape is None or any(n > most for n, most in zip(shape, ours, strict=True)):
            cure = (
                "give the SparseTensor its spatial_shape, make the layer for a larger one, or clip"
            )
            raise ValueError(complain("spatial_shape", f"at most {ours}", f"{shape}", cure))

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Return [M, D], or dense [B, D, X', Y', Z'] with every extent n going to ceil(n / s).

        Raises:
            ValueError: positions are relative and the lattice is larger than the layer's, or
                unbounded.
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            return on_full_grid(self, x)
        if self.qkv is None:
            return self._convolve(x)
        # first, so that in the backward pass its gradients come after those of attention have gone
        near = self._convolve(x).features if self.conv is not None else None
        made = self.attend(x)
        if near is None:
            return made
        return made.replace(features=torch.cat([near, made.features.to(near.dtype)], 1))

    def _convolve(self, x: SparseTensor) -> SparseTensor:
        if self.stride == (1, 1, 1):
            return self.conv(x)
        level = parents(x, self.stride)
        count = x.topology.levels[level].coords.shape[0]
        nothing = x.features.new_zeros(1, 1).expand(count, 1)
        return self.conv(x, SparseTensor.at(x.topology, level, nothing))

    def extra_repr(self) -> str:
        """Return channels, heads and extents."""
        text = f"{self.in_channels}, {self.out_channels}, dk={self.dk}, dv={self.dv}"
        text += f", num_heads={self.num_heads}"
        if self.stride != (1, 1, 1):
            text += f", stride={self.stride}"
        return text + (f", spatial_shape={self.spatial_shape}" if self.relative else "")


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    dv = max(out_channels // 4, 1)
    # tables as long as a whole scan would make keys of thousands of numbers
    bounded = spatial_shape is not None and sum(spatial_shape) <= LONGEST_TABLES
    return AAConv3d(
        in_channels,
        out_channels,
        3,
        2 * dv,
        dv,
        gcd(dv, 4),
        relative=bounded,
        spatial_shape=spatial_shape if bounded else None,
    )


FAMILIES = (
    Family(
        number=35,
        key="attention_augmented",
        title="Attention-augmented convolution",
        layer=AAConv3d,
        paper="arXiv:1904.09925",
        summary="Some output channels come from a convolution, the others from attention among "
        "all sites of the scan, which may know how sites lie to one another.",
        formula="y[i] = [conv(x)[i], W_o sum over sites j of scan b of softmax over j of "
        "(<q[i], k[j] + r[site(j) - site(i)]> / sqrt(dk / H)) v[j]]",
        on_sparse="Empty sites are left out of the softmax; a dense layer on the zero-filled grid "
        "would attend to them too. Absent neighbours of the convolution add 0.",
        use_when="On coarse levels, to give a convolution the whole scan to look at.",
        primitives=("rulebook", "conv", "ragged_attention", "aggregate"),
        make=_make,
    ),
)
