"""Convolve with a kernel that every output site reads at places of its own."""

from __future__ import annotations

from torch import Tensor

from sparseconv.functional.conv import onto_level
from sparseconv.geometry import Geometry
from sparseconv.ops.deform_kernel import deform_kernel
from sparseconv.tensor.sparse_tensor import SparseTensor


def deform_kernel3d(
    x: SparseTensor,  # [N, C]
    weight: Tensor,  # [C, 1, Sx, Sy, Sz]
    places: Tensor,  # [M, K, R, 3]
    geometry: Geometry,
    sites: SparseTensor,
) -> SparseTensor:  # [M, C]
    """Weigh the neighbours of every output site by a kernel read between its cells.

    `y[o, c] = sum over taps t of W(places[o, t, r])[c] x[o * stride - padding + t * dilation, c]`,
    `r = c // (C / R)`; `W(q)[c]` is trilinear on the grid `weight[c, 0]`, 0 beyond it. Absent
    neighbours add 0.

    Args:
        x: [N, C].
        weight: [C, 1, Sx, Sy, Sz].
        places: [M, K, R, 3], in cells of the grid, for R groups of channels.
        geometry: of the neighbours.
        sites: its M sites are those of the result; its features are not read.

    Returns:
        [M, C] at the sites of `sites`.

    Raises:
        TypeError, ValueError: dtypes or shapes do not fit.

    Source:
        Gao et al., "Deformable Kernels", arXiv:1910.02940.
    """
    book, scope = onto_level(x, sites, geometry), list(weight.shape[2:])
    cells = weight.flatten(1).t().contiguous()
    rows = book.in_rows, book.out_rows, book.segments
    features = deform_kernel(x.features, cells, places, *rows, scope)
    return SparseTensor.at(sites.topology, sites.level, features)
