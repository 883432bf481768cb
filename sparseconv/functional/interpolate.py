"""Read a sparse tensor between its sites."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.ops._checks import describe
from sparseconv.ops.aggregate import aggregate
from sparseconv.ops.sample import sample_sum
from sparseconv.tensor.sparse_tensor import SparseTensor

CORNERS = [v for x in (0, 1) for y in (0, 1) for z in (0, 1) for v in (x, y, z)]


def interpolate(
    x: SparseTensor,  # [N, C]
    points: Tensor,  # [Q, 4]
    *,
    mode: str = "trilinear",
    normalize: bool = False,
) -> Tensor:  # [Q, C]
    """Read features at any position, from the eight sites around it.

    `y[q] = sum over corners s of x[s] product over axes of (1 - |p - s|)`; a corner that is not
    active adds 0. Equals `torch.nn.functional.grid_sample(padding_mode="zeros",
    align_corners=True)` of the zero-filled grid.

    Args:
        x: [N, C].
        points: float [Q, 4]: batch item, then x, y, z in voxels of this lattice; the features of
            site (i, j, k) sit at position (i, j, k).
        mode: `"trilinear"`, or `"nearest"` for the site at the rounded position.
        normalize: divide by the weight of the corners that are active, so that a position beside a
            gap is not pulled towards 0; a position without any active corner stays 0.

    Returns:
        [Q, C], differentiable in features and, for trilinear, in points.

    Raises:
        TypeError, ValueError: `points` is not floating [Q, 4], or no such mode.
    """
    if not isinstance(points, Tensor) or not points.is_floating_point():
        raise TypeError(complain("points", "a floating tensor [Q, 4]", describe(points)))
    if points.dim() != 2 or points.shape[1] != 4:
        cure = "the columns are batch, x, y, z"
        raise ValueError(complain("points", "shape [Q, 4]", describe(points), cure))
    if mode not in ("trilinear", "nearest"):
        raise ValueError(complain("mode", "'trilinear' or 'nearest'", repr(mode)))
    count = points.shape[0]
    # positions keep their own precision: a half has too few bits for voxels beyond 2048
    wide = points.to(torch.promote_types(points.dtype, torch.float32))
    if mode == "trilinear" and not (torch.is_grad_enabled() and points.requires_grad):
        return _sampled(x, wide, normalize)
    corner = (wide.round() if mode == "nearest" else wide.floor()).detach()
    offsets = [0, 0, 0] if mode == "nearest" else CORNERS
    book = x.topology.pairs(x.level, corner.to(torch.int32).contiguous(), offsets, (1, 1, 1))
    if mode == "nearest":
        return aggregate(x.features, book.in_rows, book.out_rows, None, count)
    fraction = (wide - corner)[:, 1:]
    # weight of each axis at its lower and upper corner, then of each of the 8 corners
    sides = torch.stack([1 - fraction, fraction], 2)
    weights = torch.einsum("qi,qj,qk->qijk", sides[:, 0], sides[:, 1], sides[:, 2])
    weights = weights.reshape(-1)[book.out_rows.long() * 8 + book.tap_of_pair]
    if normalize:
        present = torch.zeros(count, dtype=weights.dtype, device=weights.device)
        present = present.index_add(0, book.out_rows, weights)
        present = torch.where(present > 0, present, 1)
        weights = weights / present[book.out_rows.long()]
    return aggregate(x.features, book.in_rows, book.out_rows, weights.to(x.features.dtype), count)


def _sampled(
    x: SparseTensor,  # [N, C]
    points: Tensor,  # [Q, 4]
    normalize: bool,
) -> Tensor:  # [Q, C]
    """Read at positions that want no gradient; those that do may want it differentiated again."""
    items = points[:, 0].floor().to(torch.int32)
    places = points[:, 1:].reshape(-1, 1, 1, 3)
    where = x.coords, x.topology.blocks(x.level), items, places
    return sample_sum(x.features, *where, None, normalize=normalize)
