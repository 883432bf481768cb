"""Samples between sites weighed by a kernel that is read between its cells, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv.backends.reference.conv import accumulator
from sparseconv.backends.reference.deform_kernel import mix_of
from sparseconv.backends.reference.sample import (
    Finder,
    by_group,
    cells,
    corners_of,
    put_back,
    spans,
)


def _moved(
    heads: Tensor,  # [M, 6 R K]
    grid: Tensor,  # [K, 3]
    start: Tensor,  # [K, 3]
    parts: int,
) -> tuple[Tensor, Tensor]:  # [M, K, R, 3], [M, K, R, 3]
    """Return positions, counted from the sites, and places in the kernel."""
    both = heads.reshape(-1, 2, parts, grid.shape[0], 3).transpose(2, 3)
    return grid[:, None] + both[:, 0], start[:, None] + both[:, 1]


def moved_kernel(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    heads: Tensor,  # [M, 6 R K]
    grid: Tensor,  # [K, 3]
    kernel: Tensor,  # [S, C]
    start: Tensor,  # [K, 3]
    scope: list[int],
    parts: int,
) -> Tensor:  # [M, C]
    """Return `y[o, c] = sum over t of W(places[o, t, r(c)])[c] x(positions[o, t, r(c)])[c]`."""
    del blocks
    m, taps, channels = heads.shape[0], grid.shape[0], features.shape[1]
    wide, find = accumulator(features.dtype), Finder(coords)
    x, y = by_group(features, parts, wide), features.new_zeros(m, channels)
    weight = by_group(kernel, parts, wide)
    for span in spans(m, taps * 16 * (channels + 4 * parts)):
        positions, places = _moved(heads[span], grid, start, parts)
        rows, shares, _ = cells(find, sites[span, 0], positions, wide, sites[span, 1:])
        read = torch.einsum("mkrs,mkrsc->mkrc", shares, corners_of(x, rows))
        near, mix, _ = mix_of(places, scope, wide)
        by = torch.einsum("mkrs,mkrsc->mkrc", mix, corners_of(weight, near))
        y[span] = (read * by).sum(1).reshape(-1, channels).to(y.dtype)
    return y


def moved_kernel_grad(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    heads: Tensor,  # [M, 6 R K]
    grid: Tensor,  # [K, 3]
    kernel: Tensor,  # [S, C]
    start: Tensor,  # [K, 3]
    scope: list[int],
    parts: int,
    grad: Tensor,  # [M, C]
) -> tuple[Tensor, Tensor, Tensor]:  # [N, C], [M, 6 R K], [S, C]
    """Return the gradients of features, heads and kernel."""
    del blocks
    m, taps, channels = heads.shape[0], grid.shape[0], features.shape[1]
    wide, find = accumulator(features.dtype), Finder(coords)
    x, weight = by_group(features, parts, wide), by_group(kernel, parts, wide)
    to_x, to_weight, to_heads = (torch.zeros_like(v) for v in (x, weight, heads))
    for span in spans(m, taps * 32 * (channels + 4 * parts)):
        positions, places = _moved(heads[span], grid, start, parts)
        rows, shares, slopes = cells(find, sites[span, 0], positions, wide, sites[span, 1:])
        near, mix, leans = mix_of(places, scope, wide)
        corners, inner = corners_of(x, rows), corners_of(weight, near)
        g = grad[span].to(wide).reshape(-1, 1, parts, channels // parts)
        by_read = g * torch.einsum("mkrs,mkrsc->mkrc", mix, inner)
        by_mix = g * torch.einsum("mkrs,mkrsc->mkrc", shares, corners)
        move = torch.einsum("mkrc,mkrsc,mkrsa->mkra", by_read, corners, slopes)
        turn = torch.einsum("mkrc,mkrsc,mkrsa->mkra", by_mix, inner, leans)
        both = torch.stack([move, turn], 1).transpose(2, 3).flatten(1)
        to_heads[span] = both.to(to_heads.dtype)
        put_back(to_x, rows, torch.einsum("mkrs,mkrc->mkrsc", shares, by_read))
        put_back(to_weight, near, torch.einsum("mkrs,mkrc->mkrsc", mix, by_mix))
    made = (to_x[:-1], features), (to_weight[:-1], kernel)
    to_x, to_kernel = (t.reshape(like.shape).to(like.dtype) for t, like in made)
    return to_x, to_heads, to_kernel
