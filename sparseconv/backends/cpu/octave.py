"""Convolutions of two resolutions that exchange: sums of children, and results lifted to them."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import DTYPES, dense, rows
from sparseconv.backends.cpu.aggregate import aggregate
from sparseconv.backends.cpu.conv import conv_grad_weight, convolve
from sparseconv.backends.cpu.row_list import listed
from sparseconv.backends.reference.octave import Primitives, gradients


def octave_conv(
    features: Tensor,  # [N, C], or [N, C_H] beside `low`
    low: Tensor | None,  # [M, C_L]
    high_to_high: Tensor,  # [K, C_H, D_H]
    high_to_low: Tensor,  # [K, C_H, D_L]
    low_to_high: Tensor,  # [K, C_L, D_H]
    low_to_low: Tensor,  # [K, C_L, D_L]
    bias: Tensor | None,  # [D]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    low_in_rows: Tensor,  # [Q] int32
    low_out_rows: Tensor,  # [Q] int32
    low_segments: Tensor,  # [K + 1] int64
    children: Tensor | None,  # [M + N + 69] int64
    parents: Tensor,  # [N] int32
    counts: Tensor,  # [M] int64
    adjoint: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # [N, D] or [N, D_H], [0 or M, D_L], [M, C]
    """Return the high part, or both side by side, the low part, and what the low lattice read.

    Besides the results only what the low lattice reads and what is lifted from there is made: the
    convolution at the sites adds it while its own sums are in the cache.
    """
    features = rows("features", features)
    (channels, width), far_width = high_to_high.shape[1:], high_to_low.shape[2]
    given = channels if low is not None else channels + low_to_high.shape[1]
    if features.shape[1] != given:
        raise ValueError(complain("features", f"{given} channels", f"{features.shape[1]}"))
    num, num_low, whole = features.shape[0], counts.shape[0], width + far_width
    near, own = (None, None) if bias is None else bias.split([width, far_width])

    pooled = parent_sum(features, children, parents, counts, not adjoint)
    if low is None:
        y, rest = features.new_empty(num, whole), features.new_empty(0, far_width)
        lifted = features.new_empty(num_low, whole)
        up, far = lifted[:, :width], lifted[:, width:]
    else:
        pooled = torch.cat([pooled, dense("low", low, features.dtype, 2)], 1)
        y, far = features.new_empty(num, width), features.new_empty(num_low, far_width)
        rest, lifted = far, features.new_empty(num_low, width)
        up = lifted

    below = low_in_rows, low_out_rows, low_segments
    both = _side_by_side(high_to_low, low_to_low)
    convolve(pooled, both, own, below, num_low, mirrored=adjoint, out=far)
    behind = pooled[:, channels:]
    convolve(behind, low_to_high, None, below, num_low, mirrored=adjoint, out=up)
    convolve(
        features[:, :channels],
        high_to_high,
        near,
        (in_rows, out_rows, segments),
        num,
        mirrored=adjoint,
        residual=lifted,
        parents=parents,
        counts=counts if adjoint else None,
        out=y,
    )
    return y, rest, pooled


def _side_by_side(a: Tensor, b: Tensor) -> Tensor:
    """Join weights along their input channels, in the memory order they have."""
    if a.stride(1) == 1 and a.stride(2) != 1:
        return torch.cat([a.transpose(1, 2), b.transpose(1, 2)], 2).transpose(1, 2)
    return torch.cat([a, b], 1)


def parent_sum(
    features: Tensor,  # [N, C]
    children: Tensor | None,  # [M + N + 69] int64
    parents: Tensor,  # [N] int32
    counts: Tensor,  # [M] int64
    divided: bool,
) -> Tensor:  # [M, C]
    """Return the sum of each parent's children, divided by its count where asked for."""
    features = rows("features", features)
    (num, channels), num_low = features.shape, counts.shape[0]
    if children is None:
        every = torch.arange(num, dtype=torch.int32)
        total = aggregate(features, every, parents, None, num_low)
        return total.div_(counts[:, None]) if divided else total
    children, counts = listed(children, num, num_low), dense("counts", counts, torch.int64, 1)
    total = features.new_empty(num_low, channels)
    _native.sum_rows(
        DTYPES[features.dtype],
        num,
        num_low,
        channels,
        features.data_ptr(),
        children.data_ptr(),
        num,
        counts.data_ptr() if divided else 0,
        total.data_ptr(),
        torch.get_num_threads(),
    )
    return total


_COMPILED = Primitives(octave_conv, conv_grad_weight, parent_sum)


def octave_conv_grad(*args: object) -> tuple[Tensor, ...]:
    """Return `gradients` by this backend."""
    return gradients(_COMPILED, *args)
