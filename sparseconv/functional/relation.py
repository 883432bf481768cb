"""Means of each site's neighbours, weighed by a softmax of likeness and place."""

from __future__ import annotations

from torch import Tensor

from sparseconv.geometry import Geometry
from sparseconv.ops.relation import relation_mean, relation_shares
from sparseconv.tensor.sparse_tensor import SparseTensor


def related_mean(
    x: SparseTensor,  # [N, C]
    query: SparseTensor,  # [M, G]
    key: Tensor,  # [N, G]
    prior: Tensor,  # [K, G]
    geometry: Geometry,
    likeness: str,
) -> SparseTensor:  # [M, C]
    """Average the neighbours of each site by a softmax of likeness and of relative position.

    `y[o, c] = sum over present taps t of w[o, t, g(c)] x[site(o) * stride + offset(t), c]` with
    `w[o, ., g] = softmax over present taps of Phi(q[o, g], k[i(t), g]) + prior[t, g]`.

    Args:
        x: [N, C].
        query: [M, G] at the sites that are written, G a divisor of C.
        key: float [N, G], of the sites of `x`.
        prior: float [K, G], of the taps.
        geometry: of the kernel.
        likeness: Phi: `"sqdiff"`, `"absdiff"` or `"dot"`.

    Returns:
        [M, C] at the sites of `query`; 0 where no tap is present.

    Raises:
        TypeError, ValueError: dtypes, groups, taps or rows do not fit.
    """
    book = x.topology.rulebook(x.level, query.level, geometry)
    pairs = book.in_rows, book.out_rows, book.segments
    given = x.features, query.features, key, prior
    return query.replace(features=relation_mean(*given, *pairs, likeness))


def related_shares(
    x: SparseTensor,  # [N, C]
    query: SparseTensor,  # [M, G]
    key: Tensor,  # [N, G]
    prior: Tensor,  # [K, G]
    geometry: Geometry,
    likeness: str,
) -> Tensor:  # [M, K, G]
    """Return the weights that `related_mean` takes, 0 for absent taps.

    Args and raises as for `related_mean`.
    """
    book = x.topology.rulebook(x.level, query.level, geometry)
    pairs = book.in_rows, book.out_rows, book.segments
    return relation_shares(query.features, key, prior, *pairs, likeness)
