"""Sums over neighbouring sites and channels with kernels of the plane a site lies on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as dense

from sparseconv._errors import complain
from sparseconv.geometry import Geometry
from sparseconv.ops.conv import conv
from sparseconv.ops.items import split_by_item
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


def _of_planes(
    book: Rulebook,
    copies: int,
    at: Tensor,  # [N] int32
    planes: int,
) -> Rulebook:
    """Split taps by the plane of the output row: tap `(q J + j) K + t` reads copy j of the rows."""
    starts = torch.arange(copies, device=book.in_rows.device)
    rows, pairs = at.shape[0], book.in_rows.shape[0]
    in_rows = ((starts * rows).to(torch.int32)[:, None] + book.in_rows).flatten()
    out_rows = book.out_rows.expand(copies, -1).reshape(-1)
    ends = (starts * pairs).to(book.segments.device)[:, None] + book.segments[1:]
    segments = torch.cat([book.segments[:1], ends.flatten()])
    return Rulebook(*split_by_item(in_rows, out_rows, segments, at, planes))


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
        float [N, C]. It is one depthwise convolution of L J K taps, of which a site has J K.

    Raises:
        IndexError: a site lies on no plane.
    """
    planes, shifts, _ = bank.shape
    topology, level, (count, channels) = x.topology, x.level, x.features.shape

    def made() -> Rulebook:
        at = x.coords[:, axis + 1].contiguous()
        if x.spatial_shape is None and not torch.compiler.is_compiling() and at.numel():
            low, high = (int(v) for v in torch.aminmax(at))
            if low < 0 or high >= planes:
                raise IndexError(complain("x", f"sites in 0..{planes - 1}", f"{low}..{high}"))
        return _of_planes(topology.rulebook(level, level, geometry), shifts, at, planes)

    key = f"{level}>{level}:{geometry.key}@{axis}.{shifts}.{planes}"
    book = topology.derived(key, made)
    weight = bank.reshape(-1, 1, 1).expand(-1, 1, channels)
    rows = book.in_rows, book.out_rows, book.segments
    return conv(copies, weight, None, *rows, count, channels)
