"""A submanifold convolution over the first taps of a kernel alone."""

from __future__ import annotations

from torch import Tensor

from sparseconv.functional.conv import over_rulebook
from sparseconv.functional.normed import Norm
from sparseconv.geometry import Geometry
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.sparse_tensor import SparseTensor


def first_taps_conv3d(
    x: SparseTensor,  # [N, C]
    weight: Tensor,  # [K', C / G, D]
    bias: Tensor | None,  # [D]
    geometry: Geometry,
    *,
    groups: int = 1,
    norm: Norm | None = None,
    add: Tensor | None = None,  # [N, D]
    relu: bool = False,
) -> SparseTensor:  # [N, D]
    """Convolve at the sites of `x`, reading the first K' of the kernel's K taps.

    `y[n] = b + sum over taps t < K' of W[t] x[site(n) + offset(t)]`. The rulebook is that of the
    whole kernel, which other layers share: pairs are sorted by tap, so the first taps are its
    beginning, and nothing is copied or counted.

    Args:
        x: [N, C].
        weight: [K', C / G, D], a matrix per tap.
        bias: [D].
        geometry: of the whole kernel; its stride is 1.
        groups: G.
        norm: normalises the result.
        add: added to the result.
        relu: whether to clip the sum below at 0.

    Returns:
        [N, D] at the sites of `x`.

    Raises:
        TypeError, ValueError: dtypes or channels do not fit.
    """
    whole = x.topology.rulebook(x.level, x.level, geometry)
    book = Rulebook(whole.in_rows, whole.out_rows, whole.segments[: weight.shape[0] + 1])
    return over_rulebook(
        x, weight, bias, book, x.topology, x.level, groups, norm=norm, residual=add, relu=relu
    )
