"""Sums over neighbours with weights of each site's own, their dot products, and who is present."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv.geometry import Geometry
from sparseconv.ops.taps import tap_dot, tap_sum
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.sparse_tensor import SparseTensor


def neighbour_sum(
    x: SparseTensor,  # [N, C]
    weights: Tensor,  # [M, K, G]
    geometry: Geometry,
    level: str | None = None,
) -> SparseTensor:  # [M, C]
    """Sum the neighbours of each site with weights of its own.

    `y[o, c] = sum over taps t of w[o, t, c // (C / G)] x[site(o) * stride + offset(t), c]`, absent
    neighbours adding nothing.

    Args:
        x: [N, C].
        weights: dtype of `x`, [M, K, G], G a divisor of C.
        geometry: of the kernel.
        level: name of the level whose sites are written, one of the topology of `x`; None for the
            sites of `x` (a geometry of stride 1).

    Returns:
        [M, C] at the sites of the level.

    Raises:
        TypeError, ValueError: dtypes, groups, taps or rows do not fit.
    """
    target = x.level if level is None else level
    book = x.topology.rulebook(x.level, target, geometry)
    sites = x.topology.levels[target].coords.shape[0]
    features = tap_sum(x.features, weights, book.in_rows, book.out_rows, book.segments, sites)
    return SparseTensor.at(x.topology, target, features)


def neighbour_dot(
    x: SparseTensor,  # [N, C]
    y: SparseTensor,  # [M, C]
    geometry: Geometry,
    groups: int = 1,
) -> Tensor:  # [M, K, G]
    """Return the dot product of each site of `y` with each of its neighbours in `x`.

    `e[o, t, g] = sum over channels c of g of x[site(o) * stride + offset(t), c] y[o, c]`, 0 where a
    neighbour is absent.

    Args:
        x: [N, C], the neighbours.
        y: same dtype, [M, C], at a level of the same topology.
        geometry: of the kernel.
        groups: G, a divisor of C.

    Returns:
        float [M, K, G].

    Raises:
        TypeError, ValueError: dtypes, groups or channels do not fit.
    """
    book = x.topology.rulebook(x.level, y.level, geometry)
    return tap_dot(x.features, y.features, book.in_rows, book.out_rows, book.segments, groups)


def taps_present(
    book: Rulebook,
    num_out: int,
) -> Tensor:  # [M, K] bool
    """Return which taps of each output site have an input site.

    Args:
        book: of the pairs.
        num_out: output rows M.

    Returns:
        bool [M, K]; on a GPU nothing waits for it.
    """
    present = torch.zeros(num_out, book.taps, dtype=torch.bool, device=book.in_rows.device)
    there = torch.ones_like(book.in_rows, dtype=torch.bool)
    return present.index_put((book.out_rows.long(), book.tap_of_pair), there)
