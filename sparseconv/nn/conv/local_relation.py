"""Local relation: neighbours weighed by how well they go with a site, and by where they lie."""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.full_grid import on_full_grid
from sparseconv.functional.linear import traceable_linear
from sparseconv.functional.parents import block_centre
from sparseconv.functional.relation import related_mean, related_shares
from sparseconv.geometry import Geometry, Triple
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.family import Family
from sparseconv.ops.relation import LIKENESS
from sparseconv.tensor.sparse_tensor import SparseTensor


class LocalRelation3d(ChecksInput, nn.Module):
    """Average each site's neighbours, weighed by a softmax of likeness and relative position.

    `y[o] = W_out sum over present taps t of w[o, t, g(c)] x[site(o) + offset(t), c]`, with
    `w[o, ., g] = softmax over present taps of scale * Phi(q[o, g], k[i(t), g]) + f[t, g]`. Query
    and key are one number a group of channels, `q = W_q x` and `k = W_k x`; Phi is `-(q - k)^2`,
    `-|q - k|` or `q k`; f is a net of two layers of the relative position. Absent neighbours have
    no share in the softmax. With a stride s, outputs are the blocks of s^3 voxels that hold a site,
    and the query is made from site `o s`, or where that is absent from the mean of the block.

    Args:
        channels: C.
        kernel_size: taps per axis, an odd int or three; the paper's 7 means 343 taps here.
        m: channels that share a weight, a divisor of C.
        stride: voxels, an int or three.
        dilation: voxels between taps, an int or three.
        similarity: Phi: `"sqdiff"`, `"absdiff"` or `"dot"`.
        geo_hidden: width of the hidden layer of f; None for 16.
        scale: of Phi, 0 or more.
        bias: whether the maps have one.
        out_channels: D, rows of W_out; None for C.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        ValueError: an argument is out of range.

    Source:
        Hu et al., "Local Relation Networks for Image Recognition", arXiv:1904.11491, equation 2,
        of images; here over voxels.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Triple = 5,
        m: int = 8,
        stride: int | Triple = 1,
        dilation: int | Triple = 1,
        similarity: str = "sqdiff",
        geo_hidden: int | None = None,
        scale: float = 1.0,
        bias: bool = True,
        *,
        out_channels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if m < 1 or channels % m:
            raise ValueError(complain("m", f"a divisor of {channels} channels", f"{m}"))
        if similarity not in LIKENESS:
            expected = "'sqdiff', 'absdiff' or 'dot'"
            raise ValueError(complain("similarity", expected, repr(similarity)))
        if not 0 <= scale < float("inf"):
            raise ValueError(complain("scale", "a number from 0 on", f"{scale}"))
        shape = Geometry.make(kernel_size, 1, "same", dilation)
        if not all(k % 2 for k in shape.size):
            expected = "odd sizes, so that a site is the centre of its kernel"
            raise ValueError(complain("kernel_size", expected, repr(kernel_size)))
        self.geometry = Geometry.make(shape.size, stride, shape.padding, shape.dilation)
        self.in_channels = self.channels = channels
        self.groups, self.similarity, self.scale = channels // m, similarity, scale
        factory = {"device": device, "dtype": dtype}
        # rows of the query, then rows of the key
        self.query_key = nn.Linear(channels, 2 * self.groups, bias, **factory)
        hidden = 16 if geo_hidden is None else geo_hidden
        # a bias of the second would be the same for all taps, which a softmax does not see
        self.geometric = nn.Sequential(
            nn.Linear(3, hidden, **factory),
            nn.ReLU(),
            nn.Linear(hidden, self.groups, bias=False, **factory),
        )
        self.out = nn.Linear(channels, out_channels or channels, bias, **factory)
        offsets = torch.tensor(shape.offsets, dtype=torch.float64).reshape(-1, 3)
        reach = offsets.abs().amax(0).clamp(min=1)
        relative = (offsets / reach).to(self.out.weight)
        self.register_buffer("relative", relative, persistent=False)

    def relation(
        self,
        x: SparseTensor,  # [N, C]
    ) -> tuple[SparseTensor, Tensor, Tensor]:  # [M, G], [N, G], [K, G]
        """Return queries at the sites that are written, keys, and what each tap adds: f."""
        weight, bias = self.query_key.weight, self.query_key.bias
        both = traceable_linear(x.features, weight, bias)
        # sums that cancel, in float32 at least
        both = both.to(torch.promote_types(both.dtype, torch.float32))
        q, k = both.split(self.groups, 1)
        stays = self.geometry.stride == (1, 1, 1)
        query = x.replace(features=q) if stays else self._strided_query(x)
        # the scale goes into what is compared: squares of a root, and one of two factors
        factor = self.scale**0.5 if self.similarity == "sqdiff" else self.scale
        key = k if self.similarity == "dot" else k * factor
        query = query.replace(features=query.features.to(k.dtype) * factor)
        return query, key, self.geometric(self.relative)

    def shares(
        self,
        x: SparseTensor,  # [N, C]
    ) -> Tensor:  # [M, K, G]
        """Return the softmax weights, 0 for absent taps."""
        return related_shares(x, *self.relation(x), self.geometry, self.similarity)

    def _strided_query(self, x: SparseTensor) -> SparseTensor:  # [M, G]
        """Map the centres of the blocks, or their means where the centre is absent."""
        centre = block_centre(x, self.geometry.stride)
        weight, bias = self.query_key.weight[: self.groups], self.query_key.bias
        bias = None if bias is None else bias[: self.groups]
        return centre.replace(features=traceable_linear(centre.features, weight, bias))

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Return [M, D], or dense [B, D, X', Y', Z'] with every extent n going to ceil(n / s)."""
        self.check_input(x)
        if isinstance(x, Tensor):
            return on_full_grid(self, x)
        y = related_mean(x, *self.relation(x), self.geometry, self.similarity)
        return y.replace(features=traceable_linear(y.features, self.out.weight, self.out.bias))

    def extra_repr(self) -> str:
        """Return channels, kernel size, groups and similarity."""
        return (
            f"{self.channels}, kernel_size={self.geometry.size}, groups={self.groups}, "
            f"similarity={self.similarity!r}"
        )


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return LocalRelation3d(in_channels, 3, gcd(in_channels, 8), out_channels=out_channels)


FAMILIES = (
    Family(
        number=34,
        key="local_relation",
        title="Local relation",
        layer=LocalRelation3d,
        paper="arXiv:1904.11491",
        summary="An average of each site's neighbours, weighed by a softmax of how well they go "
        "with the site and of where they lie.",
        formula="y[o] = W_out sum over present t of w[o, t, g(c)] x[site(o) + offset(t), c], "
        "w[o, ., g] = softmax over present t of Phi(q[o, g], k[i(t), g]) + f[t, g]",
        on_sparse="Absent neighbours are left out of the softmax, whose weights add up to 1 over "
        "those present; a dense layer on the zero-filled grid would count zeros.",
        use_when="As attention of short reach: weights depend on both ends, and no number of "
        "neighbours is assumed.",
        primitives=("conv", "relation_mean"),
        make=_make,
    ),
)
