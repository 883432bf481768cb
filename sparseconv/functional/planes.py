"""Sums over neighbouring sites and channels with kernels of the plane a site lies on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as dense

from sparseconv.geometry import Geometry
from sparseconv.ops.aggregate import aggregate
from sparseconv.ops.taps import tap_sum
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.sparse_tensor import SparseTensor


def resample_planes(
    bank: Tensor,  # [L, ...]
    count: int,
) -> Tensor:  # [count, ...]
    """Stretch a bank of kernels linearly along its first axis, ends to ends."""
    if bank.shape[0] == count:
        return bank
    lines = bank.flatten(1).t()[None]
    stretched = dense.interpolate(lines, size=count, mode="linear", align_corners=True)
    return stretched[0].t().reshape(count, *bank.shape[1:])


def shifted_channels(
    features: Tensor,  # [N, C]
    shifts: Sequence[int],
) -> Tensor:  # [J * N, C]
    """Return one copy a shift, below one another: row n of copy j is `x[n, c + shifts[j]]`."""
    return torch.cat([dense.pad(features, (-shift, shift)) for shift in shifts])


def _of_copies(book: Rulebook, copies: int, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a rulebook whose tap `j K + t` reads what tap t reads, in copy j of the rows."""
    starts = torch.arange(copies, device=book.in_rows.device)
    first_rows, first_pairs = (starts * rows).to(torch.int32), starts * book.in_rows.shape[0]
    in_rows = (first_rows[:, None] + book.in_rows).flatten()
    out_rows = book.out_rows.expand(copies, -1).reshape(-1)
    ends = first_pairs.to(book.segments.device)[:, None] + book.segments[1:]
    return in_rows, out_rows, torch.cat([book.segments[:1], ends.flatten()])


def plane_sum(
    x: SparseTensor,  # [N, C]
    copies: Tensor,  # [J * N, C]
    bank: Tensor,  # [L, J, K]
    axis: int,
    geometry: Geometry,
) -> Tensor:  # [N, C]
    """Sum over shifts of the channels and taps, with the kernel of each site's plane.

    `y[n, c] = sum over j, t of bank[q, j, t] x[site(n) + offset(t), c + shifts[j]]`, q being the
    coordinate of the site along the axis.

    Args:
        x: [N, C], bounded.
        copies: `shifted_channels` of its features.
        bank: dtype of `x`, [L, J, K], a kernel for each of the L planes across the axis.
        axis: 0, 1 or 2.
        geometry: of the kernel, K taps.

    Returns:
        float [N, C]. Sums are made in one pass over J K taps.
    """
    count, (planes, shifts, taps) = x.features.shape[0], bank.shape
    at = x.coords[:, axis + 1].contiguous()
    rows = torch.arange(count, dtype=torch.int32, device=x.device)
    own = aggregate(bank.reshape(planes, shifts * taps), at, rows, None, count)
    book = x.topology.rulebook(x.level, x.level, geometry)
    return tap_sum(copies, own[:, :, None], *_of_copies(book, shifts, count), count)
