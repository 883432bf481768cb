"""CoordConv: a convolution that is told where it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.normed import Norm
from sparseconv.geometry import Triple, triple
from sparseconv.nn.conv._sites import Padding, SitedConvolution
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor

RANGES = ("shape", "fixed")
# of a lattice without bounds, in the catalogue's drop-in layer
USUAL_EXTENT = (256, 256, 256)


class CoordConv3d(SitedConvolution):
    """Convolve the features and, as further channels, the coordinates of their sites.

    `y[o] = b + sum over taps t of W[t] [x, i, j, k (, r)][o * stride - padding + t * dilation]`
    with i, j, k the coordinates along x, y, z scaled to -1..1, each by its own extent n
    (`2 q / (n - 1) - 1`, 0 where n is 1), and `r = sqrt(i^2 + j^2 + k^2)`. The extent is the
    lattice's, never that of the points, which would let one voxel change all others.

    Args:
        in_channels: C; the weight is [D, C + 3, kx, ky, kz], or [D, C + 4, ...] with r.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, `"same"`, `"valid"`, or `"subm"` to keep the input's
            sites.
        dilation: voxels between taps, an int or three.
        bias: whether to add a bias.
        with_r: whether to add the distance r from the centre.
        coord_range: `"shape"` scales by the `spatial_shape` of the tensor's own level; `"fixed"`
            by `extent` on the finest lattice, whatever the tensor says, so that an unbounded one
            will do and sites outside go beyond -1..1.
        extent: voxels of the finest lattice along x, y, z, for `coord_range="fixed"`.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Source:
        Liu et al., "An Intriguing Failing of Convolutional Neural Networks and the CoordConv
        Solution", arXiv:1807.03247.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
        with_r: bool = False,
        coord_range: str = "shape",
        extent: int | Sequence[int] | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if coord_range not in RANGES:
            raise ValueError(complain("coord_range", "'shape' or 'fixed'", repr(coord_range)))
        if (extent is None) == (coord_range == "fixed"):
            raise ValueError(
                complain("extent", "three ints with coord_range='fixed', else None", repr(extent))
            )
        super().__init__(
            in_channels + 3 + with_r if isinstance(in_channels, int) else in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            1,
            bias,
            device=device,
            dtype=dtype,
        )
        self.in_channels = in_channels
        self.with_r, self.coord_range = with_r, coord_range
        self.extent = None if extent is None else triple("extent", extent, least=1)

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
            [M, D], or dense [B, D, X', Y', Z'].

        Raises:
            ValueError: the lattice is unbounded and `coord_range="shape"`.
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            axes = [torch.arange(n, device=x.device) for n in x.shape[2:]]
            sites = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
            where = self._scaled(sites, tuple(x.shape[2:]), (1, 1, 1), x.dtype)
            where = where.permute(3, 0, 1, 2).expand(x.shape[0], -1, -1, -1, -1)
            return self.finish_dense(self.dense_conv3d(torch.cat([x, where], 1)), add, relu)
        if self.coord_range == "shape" and x.spatial_shape is None:
            raise ValueError(
                complain(
                    "x",
                    "a spatial_shape, by which coordinates are scaled",
                    "an unbounded lattice",
                    "give the tensor one, or the layer coord_range='fixed' and an extent",
                )
            )
        where = self._scaled(x.coords[:, 1:], x.spatial_shape, x.stride, x.dtype)
        x = x.replace(features=torch.cat([x.features, where], 1))
        return self.convolve(x, self.weight, 1, norm, add, relu)

    def _scaled(
        self,
        sites: Tensor,  # [..., 3] int
        shape: Triple | None,
        stride: Triple,
        dtype: torch.dtype,
    ) -> Tensor:  # [..., 3 or 4]
        """Return coordinates scaled to -1..1, and their length where it is wanted."""
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        if self.extent is None:
            steps, last = (1, 1, 1), [n - 1 for n in shape]
        else:
            steps, last = stride, [n - 1 for n in self.extent]
        columns = [
            sites[..., a].to(wide) * (2 * steps[a] / last[a]) - 1
            if last[a] > 0
            else torch.zeros_like(sites[..., a], dtype=wide)
            for a in range(3)
        ]
        if self.with_r:
            columns.append(torch.stack(columns, -1).square().sum(-1).sqrt())
        return torch.stack(columns, -1).to(dtype)

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        text = super().extra_repr()
        text += ", with_r=True" if self.with_r else ""
        return text if self.extent is None else f"{text}, extent={self.extent}"


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    extent = USUAL_EXTENT if spatial_shape is None else spatial_shape
    return CoordConv3d(
        in_channels, out_channels, 3, padding="subm", coord_range="fixed", extent=extent
    )


FAMILIES = (
    Family(
        number=17,
        key="coord",
        title="CoordConv",
        layer=CoordConv3d,
        paper="arXiv:1807.03247",
        summary="A convolution that reads, beside the features, the coordinates of their sites, "
        "and so may learn what depends on the place.",
        formula="y[n] = b + sum over taps t of W[t] [x, i, j, k][site(n) + offset(t)], "
        "i = 2 q / (extent - 1) - 1",
        on_sparse="An absent neighbour has no coordinates either: it adds 0, where a dense "
        "CoordConv knows the place of empty cells too. The two agree on full grids.",
        use_when="Where the place matters, as height above ground does; not where scenes may be "
        "shifted.",
        primitives=("cube_rulebook", "conv"),
        make=_make,
        translation=0,
    ),
)
