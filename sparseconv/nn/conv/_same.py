"""A convolution onto the sites, or the grid, of its input, by a weight of any shape."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as dense

from sparseconv.functional.conv import submanifold_conv3d
from sparseconv.geometry import Geometry
from sparseconv.tensor.sparse_tensor import SparseTensor


def padded(
    x: Tensor,  # [B, C, X, Y, Z]
    geometry: Geometry,
) -> Tensor:
    """Pad each side of a grid by itself: those of even kernels differ."""
    # torch's list of pads begins with the last axis
    sides = zip(reversed(geometry.padding), reversed(geometry.far_padding), strict=True)
    return dense.pad(x, [side for pair in sides for side in pair])


def same_conv3d(
    x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    weight: Tensor,  # [D, C / G, kx, ky, kz]
    bias: Tensor | None,  # [D]
    geometry: Geometry,
    groups: int = 1,
) -> SparseTensor | Tensor:  # [N, D] or [B, D, X, Y, Z]
    """Convolve with stride 1 and `padding="same"`, as `SubMConv3d` does with its parameters."""
    if isinstance(x, SparseTensor):
        return submanifold_conv3d(x, weight, bias, geometry, groups=groups)
    return dense.conv3d(padded(x, geometry), weight, bias, 1, 0, geometry.dilation, groups)
