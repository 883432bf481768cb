"""Depthwise convolutions whose kernel every site reads at places of its own, in plain torch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from sparseconv.backends.reference.conv import accumulator
from sparseconv.backends.reference.pairs import pair_bounds, rows_within
from sparseconv.backends.reference.sample import spans


def mix_of(
    places: Tensor,  # [P, R, 3]
    scope: list[int],
    wide: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:  # [P, R, 8] int64, [P, R, 8], [P, R, 8, 3]
    """Return cell, weight and the weight's slope of the eight corners about each place.

    Corners outside the grid weigh 0. At an integer the slope is that of the cell above it.
    """
    low = places.floor()
    near = ((low >= -1) & (low < torch.tensor(scope, device=low.device))).all(-1, keepdim=True)
    low = torch.where(near, low, -2)
    fraction = torch.where(near, places - low, 0).to(wide)
    low = low.to(torch.int64)
    cells, shares, slopes = [], [], []
    for corner in range(8):
        upper = [corner >> 2 & 1, corner >> 1 & 1, corner & 1]
        at = [low[..., a] + upper[a] for a in range(3)]
        there = torch.ones_like(at[0], dtype=torch.bool)
        for value, size in zip(at, scope, strict=True):
            there &= (value >= 0) & (value < size)
        cells.append(torch.where(there, (at[0] * scope[1] + at[1]) * scope[2] + at[2], 0))
        x, y, z = (fraction[..., a] if upper[a] else 1 - fraction[..., a] for a in range(3))
        sign = torch.tensor([1 if up else -1 for up in upper], dtype=wide, device=low.device)
        shares.append(torch.where(there, x * y * z, 0))
        slope = torch.stack([y * z, x * z, x * y], -1) * sign
        slopes.append(torch.where(there[..., None], slope, 0))
    return torch.stack(cells, -1), torch.stack(shares, -1), torch.stack(slopes, -2)


def _pieces(bounds: list[int], numbers: int) -> Iterator[tuple[int, slice]]:
    """Yield tap and pairs, few enough at a time for what each takes."""
    for t, (first, last) in enumerate(pairwise(bounds)):
        for span in spans(last - first, numbers):
            yield t, slice(first + span.start, first + span.stop)


def deform_kernel(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [S, C]
    places: Tensor,  # [M, K, R, 3]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    scope: list[int],
) -> Tensor:  # [M, C]
    """Return `y[o, c] = sum over pairs (i, o) of taps t of W(places[o, t, r(c)])[c] x[i, c]`."""
    wide = accumulator(features.dtype)
    x, groups, channels = features.to(wide), places.shape[2], features.shape[1]
    kernel = weight.to(wide).reshape(-1, groups, channels // groups)
    y = torch.zeros(places.shape[0], channels, dtype=wide, device=features.device)
    inputs = rows_within("in_rows", in_rows, x.shape[0])
    outputs = rows_within("out_rows", out_rows, y.shape[0])
    bounds, group = pair_bounds(segments, in_rows.shape[0]), torch.arange(groups, device=y.device)
    for t, pairs in _pieces(bounds, 4 * channels + 64 * groups):
        i, o = inputs[pairs], outputs[pairs]
        cells, shares, _ = mix_of(places[o, t], scope, wide)
        mixed = sum(kernel[cells[..., s], group] * shares[..., s, None] for s in range(8))
        y.index_add_(0, o, mixed.reshape(-1, channels) * x[i])
    return y.to(features.dtype)


def deform_kernel_grad(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [S, C]
    places: Tensor,  # [M, K, R, 3]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    scope: list[int],
    grad: Tensor,  # [M, C]
) -> tuple[Tensor, Tensor, Tensor]:  # [N, C], [S, C], [M, K, R, 3]
    """Return the gradients of features, weight and places."""
    wide = accumulator(features.dtype)
    x, g, groups, channels = features.to(wide), grad.to(wide), places.shape[2], features.shape[1]
    kernel = weight.to(wide).reshape(-1, groups, channels // groups)
    to_x, to_kernel, to_places = (torch.zeros_like(v) for v in (x, kernel, places))
    flat = to_kernel.view(-1, channels // groups)
    inputs = rows_within("in_rows", in_rows, x.shape[0])
    outputs = rows_within("out_rows", out_rows, g.shape[0])
    bounds, group = pair_bounds(segments, in_rows.shape[0]), torch.arange(groups, device=x.device)
    for t, pairs in _pieces(bounds, 8 * channels + 64 * groups):
        i, o = inputs[pairs], outputs[pairs]
        cells, shares, slopes = mix_of(places[o, t], scope, wide)
        product = (x[i] * g[o]).reshape(-1, groups, channels // groups)
        mixed, move = torch.zeros_like(product), torch.zeros_like(slopes[..., 0, :])
        for s in range(8):
            share, corner = shares[..., s, None], kernel[cells[..., s], group]
            mixed += corner * share
            # what the kernel's cell adds, were its weight one
            move += (corner * product).sum(-1, keepdim=True) * slopes[..., s, :]
            rows = (cells[..., s] * groups + group).reshape(-1)
            flat.index_add_(0, rows, (product * share).reshape(-1, flat.shape[1]))
        to_x.index_add_(0, i, mixed.reshape(-1, channels) * g[o])
        to_places[o, t] = move.to(to_places.dtype)
    to_weight = to_kernel.reshape(weight.shape).to(weight.dtype)
    return to_x.to(features.dtype), to_weight, to_places
