"""Build a rulebook to hold, count, save and share, and convolve with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.functional.conv import onto_level, over_rulebook
from sparseconv.geometry import Geometry, triple
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.sparse_tensor import SparseTensor


def rulebook(
    x: SparseTensor,
    kernel_size: int | Sequence[int] | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = "same",
    dilation: int | Sequence[int] = 1,
    *,
    offsets: Tensor | Sequence[Sequence[int]] | None = None,
    sites: SparseTensor | None = None,
) -> Rulebook:
    """Pair the sites of `x` with those of `sites`, tap by tap, for a kernel or a list of offsets.

    Row i of `x` and row o of `sites` are a pair of tap t iff they share the batch item and
    `x.coords[i].xyz == sites.coords[o].xyz * stride + offset[t]`.

    Args:
        x: whose rows are read.
        kernel_size: taps per axis; tap i has the offset `i * dilation - padding`.
        stride: voxels.
        padding: voxels, `"same"` or `"valid"`.
        dilation: voxels.
        offsets: instead of a kernel, any K tap offsets [K, 3] in voxels.
        sites: a tensor whose rows are written; None for `x` itself (a submanifold rulebook).

    Returns:
        The rulebook; that of a kernel on the sites of `x` is the one its layers share.

    Raises:
        TypeError, ValueError: neither or both of kernel and offsets, or an argument out of range.

    Example:
        >>> coords = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.int32)
        >>> x = SparseTensor(coords, torch.ones(2, 1))
        >>> rulebook(x, 3), rulebook(x, offsets=[(0, 0, 0), (0, 0, 5)])
        (Rulebook(pairs=4, taps=27), Rulebook(pairs=2, taps=2))
    """
    if (kernel_size is None) == (offsets is None):
        found = "neither" if offsets is None else "both"
        raise ValueError(complain("kernel_size, offsets", "one of the two", found))
    target = x if sites is None else sites
    if offsets is not None:
        listed = torch.as_tensor(offsets)
        if listed.dim() != 2 or listed.shape[1] != 3 or listed.is_floating_point():
            found = f"{listed.dtype} {list(listed.shape)}"
            raise ValueError(complain("offsets", "integers [K, 3]", found))
        step = triple("stride", stride, least=1)
        return x.topology.pairs(x.level, target.coords, listed.flatten().tolist(), step)
    geometry = Geometry.make(kernel_size, stride, padding, dilation)
    return onto_level(x, target, geometry)


def convolve(
    x: SparseTensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    book: Rulebook,
    sites: SparseTensor | None = None,
    *,
    groups: int = 1,
) -> SparseTensor:  # [M, D]
    """Convolve over any rulebook: `y[o] = b + sum over pairs (i, o) of tap t of x[i] W[t]`.

    Args:
        x: [N, C], whose rows the rulebook reads.
        weight: [K, C / G, D], a matrix per tap.
        bias: [D].
        book: pairs of rows of `x` and of `sites`.
        sites: a tensor whose rows the result shall have; None for those of `x`.
        groups: G.

    Returns:
        [M, D] at the sites of `sites`.

    Raises:
        TypeError, ValueError: dtypes, channels or taps do not fit.
        ValueError, IndexError: the rulebook names rows that do not exist.
    """
    target = x if sites is None else sites
    return over_rulebook(x, weight, bias, book, target.topology, target.level, groups)
