"""What differs from scan to scan: a vector of its own for every site, a kernel of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.functional.conv import check_sites, onto_level, over_rulebook
from sparseconv.geometry import Geometry
from sparseconv.ops._checks import describe
from sparseconv.ops.aggregate import aggregate
from sparseconv.ops.conv import conv
from sparseconv.tensor.sparse_tensor import SparseTensor

# rows whose sum is one partial sum: many enough to be cheap, few enough to share the work
BLOCK = 1024


def _blocks(x: SparseTensor) -> tuple[Tensor, Tensor, int]:
    """Return rows [N], the partial sum each belongs to [N], and partial sums per item."""
    count = x.coords.shape[0]
    rows = torch.arange(count, dtype=torch.int32, device=x.device)
    each = (count + BLOCK - 1) // BLOCK
    return rows, x.topology.items(x.level).of_row * each + rows // BLOCK, each


def sum_by_item(
    features: Tensor,  # [N, C]
    x: SparseTensor,
) -> Tensor:  # [B, C]
    """Sum the rows of each batch item.

    Args:
        features: float [N, C], a row per site of `x`.
        x: whose sites they are.

    Returns:
        float [B, C], 0 for an empty item; the same for every number of threads.
    """
    if x.batch_size == 1:
        return features.sum(0, keepdim=True)
    rows, blocks, each = _blocks(x)
    parts = aggregate(features, rows, blocks, None, x.batch_size * each)
    return parts.reshape(x.batch_size, each, features.shape[1]).sum(1)


def of_items(
    values: Tensor,  # [B, ...]
    x: SparseTensor,
) -> Tensor:  # [N, ...]
    """Give every row the values of its batch item: `y[n] = values[item(n)]`.

    Args:
        values: float [B, ...].
        x: whose rows are meant.

    Returns:
        float [N, ...], for one scan a view. Its gradient is `sum_by_item`.

    Raises:
        ValueError: `values` has not B entries.
    """
    if values.shape[0] != x.batch_size:
        raise ValueError(
            complain("values", f"{x.batch_size} entries, one a scan", describe(values))
        )
    count, rest = x.coords.shape[0], values.shape[1:]
    if x.batch_size == 1:
        return values.expand(count, *rest)
    rows, blocks, each = _blocks(x)
    flat = values.reshape(x.batch_size, 1, -1)
    flat = flat.expand(-1, each, -1).reshape(x.batch_size * each, flat.shape[2])
    return aggregate(flat, blocks, rows, None, count).reshape(count, *rest)


def _by_split_tap(
    weight: Tensor,  # [B, K, C / G, D]
    symmetric: bool,
) -> Tensor:  # [K', C / G, D]
    """Arrange the kernels of all items in the order of `split_by_item`."""
    if not symmetric:
        return weight.flatten(0, 1)
    centre = weight.shape[1] // 2
    middle = weight[:, centre]
    below = weight[:, :centre].transpose(0, 1).flatten(0, 1)
    above = weight[:, centre + 1 :].flip(0).transpose(0, 1).flatten(0, 1)
    return torch.cat([below, middle, middle.flip(0), above])


def per_item_conv(
    x: SparseTensor,  # [N, C]
    weight: Tensor,  # [B, K, C / G, D]
    bias: Tensor | None,  # [B, D]
    geometry: Geometry,
    *,
    groups: int = 1,
    submanifold: bool = False,
    sites: SparseTensor | None = None,
) -> SparseTensor:  # [M, D]
    """Convolve every scan with a kernel of its own.

    `y[o] = bias[b] + sum over taps t, pairs (i, o) of t, of x[i] W[b, t]`, b being the scan of o.
    One convolution over a rulebook whose taps are split by scan; for one scan a plain one.

    Args:
        x: [N, C].
        weight: float [B, K, C / G, D], a matrix per scan and tap.
        bias: float [B, D], or None.
        geometry: of the kernel.
        groups: G.
        submanifold: whether the output sites are the input sites.
        sites: a tensor whose sites the result shall have; its features are not read.

    Returns:
        [M, D], at the sites of `x`, at those the kernel reaches, or at those of `sites`.

    Raises:
        TypeError, ValueError: dtypes, channels, taps, scans or lattices do not fit.
    """
    topology, level = x.topology, x.level
    if weight.dim() != 4 or weight.shape[:2] != (x.batch_size, geometry.taps):
        expected = f"[{x.batch_size}, {geometry.taps}, C / G, D], a kernel per scan"
        raise ValueError(complain("weight", expected, describe(weight)))
    if bias is not None and bias.shape != (x.batch_size, weight.shape[3]):
        expected = f"[{x.batch_size}, {weight.shape[3]}]"
        raise ValueError(complain("bias", expected, describe(bias)))
    if sites is not None:
        reached = tuple(a * b for a, b in zip(x.stride, geometry.stride, strict=True))
        check_sites(x, sites, reached)
        topology, level = sites.topology, sites.level
    elif not submanifold:
        level = topology.down(x.level, geometry)
    if x.batch_size == 1:
        if sites is None:
            book = topology.rulebook(x.level, level, geometry)
        else:
            book = onto_level(x, sites, geometry)
        own = None if bias is None else bias[0]
        return over_rulebook(x, weight[0], own, book, topology, level, groups)
    num_out = topology.levels[level].coords.shape[0]
    if x.batch_size == 0:
        return SparseTensor.at(topology, level, x.features.new_zeros(num_out, weight.shape[3]))
    if topology is x.topology:
        book = topology.split_rulebook(x.level, level, geometry)
    else:
        book = topology.split(onto_level(x, sites, geometry), level)
    features = conv(
        x.features,
        _by_split_tap(weight, book.symmetric),
        None,
        book.in_rows,
        book.out_rows,
        book.segments,
        num_out,
        groups,
        symmetric=book.symmetric,
    )
    y = SparseTensor.at(topology, level, features)
    return y if bias is None else y.replace(features=features + of_items(bias, y))
