"""Dense convolution: every cell of the grid, with the parameters of the sparse layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.geometry import Geometry, Triple
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv.regular import SparseConv3d
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.family import Family
from sparseconv.tensor.dense import to_dense
from sparseconv.tensor.sparse_tensor import SparseTensor

# numbers of one grid: 1 GiB of float32
MOST_NUMBERS = 2**28


class DenseConv3d(ChecksInput, nn.Conv3d):
    """`torch.nn.Conv3d`, which takes sparse tensors too and shares parameters with sparse layers.

    `y[o] = b + sum over taps t of W[t] x[o * stride - padding + t * dilation]` for every cell o of
    the grid; x, y, z are torch's third, fourth and fifth axis. A sparse tensor is written on a
    grid of zeros, which is convolved and read at the sites: the plainest way to a sparse
    convolution, and a check of any other; time and memory are the grid's, not the sites'.
    Arguments are those of `torch.nn.Conv3d`.

    Raises:
        ValueError: on a sparse tensor, the grid would hold more than 2^28 numbers.

    Source:
        Dumoulin and Visin, arXiv:1603.07285.
    """

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: dense [B, C, X, Y, Z], or sparse [N, C].

        Returns:
            Dense [B, D, X', Y', Z']; or [N, D] at the sites of `x` where the grid keeps its
            extent, else [M, D] at those `SparseConv3d` makes.

        Raises:
            ValueError: the grid is too large, or it is unbounded and the layer does not keep its
                extent, pads otherwise than with zeros, or is being traced.
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            return super().forward(x)
        keeps, geometry = self._keeps_extent(), self._geometry()
        origin, extent = self._box(x, keeps)
        reached = geometry.output_shape(extent)
        widest = max(self.in_channels, self.out_channels)
        numbers = x.batch_size * extent[0] * extent[1] * extent[2] * widest
        if numbers > MOST_NUMBERS:
            raise ValueError(
                complain(
                    "x",
                    f"a grid of at most {MOST_NUMBERS} numbers",
                    f"{x.batch_size} x {' x '.join(map(str, extent))} cells of {widest} channels",
                    "crop the scene, take larger voxels, or use to_sparse()",
                )
            )
        level = x.level if keeps else x.topology.down(x.level, geometry)
        sites = x.topology.levels[level].coords.to(torch.int64)
        if min(reached) == 0:
            y = (x.features.sum() + self.weight.sum()) * x.features.new_zeros(0, self.out_channels)
            return SparseTensor.at(x.topology, level, y)
        grid = super().forward(to_dense(x, extent, origin))
        xyz = sites[:, 1:] - torch.tensor(origin, device=sites.device)
        cell = ((sites[:, 0] * reached[0] + xyz[:, 0]) * reached[1] + xyz[:, 1]) * reached[2]
        rows = grid.permute(0, 2, 3, 4, 1).reshape(-1, self.out_channels)
        return SparseTensor.at(x.topology, level, rows.index_select(0, cell + xyz[:, 2]))

    def _geometry(self) -> Geometry:
        return Geometry.make(self.kernel_size, self.stride, self.padding, self.dilation)

    def _keeps_extent(self) -> bool:
        """Whether the output grid is the input grid, cell by cell."""
        if self.padding == "same":
            return True
        spread = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        pads = (0, 0, 0) if self.padding == "valid" else self.padding
        return self.stride == (1, 1, 1) and [2 * p for p in pads] == spread

    def _box(self, x: SparseTensor, keeps: bool) -> tuple[Triple, Triple]:
        """Return corner and extent of the grid: the lattice's, or what just holds the sites."""
        if x.spatial_shape is not None:
            return (0, 0, 0), x.spatial_shape
        if not keeps or self.padding_mode != "zeros" or torch.compiler.is_compiling():
            raise ValueError(
                complain(
                    "x",
                    "a spatial_shape, which says where the grid ends",
                    "an unbounded lattice",
                    "give the tensor one",
                )
            )
        if not len(x):
            return (0, 0, 0), (1, 1, 1)
        low, high = (corner.tolist() for corner in torch.aminmax(x.coords[:, 1:], dim=0))
        width, depth, height = (b - a + 1 for a, b in zip(low, high, strict=True))
        return tuple(low), (width, depth, height)

    @classmethod
    def from_sparse(cls, layer: SubMConv3d | SparseConv3d) -> DenseConv3d:
        """Return the dense layer of a sparse one; weight and bias are the very same parameters.

        Raises:
            TypeError: neither a submanifold nor a regular convolution.
        """
        if not isinstance(layer, (SubMConv3d, SparseConv3d)):
            raise TypeError(complain("layer", "a SubMConv3d or SparseConv3d", type(layer).__name__))
        g = layer.geometry
        uneven = g.far_padding != g.padding
        made = cls(
            layer.in_channels,
            layer.out_channels,
            g.size,
            g.stride,
            "same" if uneven or isinstance(layer, SubMConv3d) else g.padding,
            g.dilation,
            layer.groups,
            layer.bias is not None,
            device="meta",
        )
        made.weight, made.bias = layer.weight, layer.bias
        return made

    def to_sparse(self, submanifold: bool | None = None) -> SubMConv3d | SparseConv3d:
        """Return the sparse layer of this one; weight and bias are the very same parameters.

        Args:
            submanifold: whether its sites are those of its input; None for yes where the layer
                keeps the extent of the grid.

        Raises:
            ValueError: the padding is not of zeros, or a layer that does not keep the extent is
                to be submanifold.
        """
        if self.padding_mode != "zeros":
            raise ValueError(complain("padding_mode", "'zeros'", repr(self.padding_mode)))
        keeps = self._keeps_extent()
        submanifold = keeps if submanifold is None else submanifold
        if submanifold and not keeps:
            raise ValueError(
                complain(
                    "submanifold",
                    "False where the output grid is not the input grid",
                    f"True with stride {self.stride} and padding {self.padding}",
                )
            )
        sizes = (self.in_channels, self.out_channels, self.kernel_size)
        options = {
            "dilation": self.dilation,
            "groups": self.groups,
            "bias": self.bias is not None,
            "device": "meta",
        }
        made: Convolution
        if submanifold:
            made = SubMConv3d(*sizes, **options)
        else:
            made = SparseConv3d(*sizes, stride=self.stride, padding=self.padding, **options)
        made.weight, made.bias = self.weight, self.bias
        return made


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return DenseConv3d(in_channels, out_channels, 3, padding=1)


FAMILIES = (
    Family(
        number=3,
        key="dense",
        title="Dense 3D convolution",
        layer=DenseConv3d,
        paper="arXiv:1603.07285",
        summary="The convolution of a full grid, empty cells and all.",
        formula="y[o] = b + sum over taps t of W[t] x[o * stride - padding + t * dilation], every "
        "cell o",
        on_sparse="A sparse tensor is written on a grid of zeros, convolved there and read at its "
        "sites: the values of the submanifold layer, at the cost of the whole grid.",
        use_when="On small or nearly full grids, and to check or explain a sparse layer.",
        primitives=(),
        make=_make,
    ),
)
