"""Convolutions of trilinear samples at taps that every site moves, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv.backends.reference.conv import accumulator
from sparseconv.backends.reference.sample import (
    Finder,
    by_group,
    cells,
    corners_of,
    put_back,
    spans,
)


def spread(
    heads: Tensor,  # [M, 3 H K] or [M, 4 H K]
    grid: Tensor,  # [K, 3]
    parts: int,
    squash: bool,
) -> tuple[Tensor, Tensor | None]:  # [M, K, H, 3], [M, K, H]
    """Return positions, counted from the sites, and the masks behind the offsets, if any."""
    taps = grid.shape[0]
    count = 3 * parts * taps
    offsets = heads[:, :count].reshape(-1, parts, taps, 3).transpose(1, 2)
    mask = None
    if heads.shape[1] > count:
        mask = heads[:, count:].reshape(-1, parts, taps).transpose(1, 2)
        mask = torch.sigmoid(mask) if squash else mask
    return grid[:, None] + offsets, mask


def gathered(
    to_positions: Tensor,  # [M, K, H, 3]
    to_mask: Tensor | None,  # [M, K, H]
) -> Tensor:  # [M, R]
    """Return the gradient of heads, in their order."""
    made = to_positions.transpose(1, 2).flatten(1)
    if to_mask is None:
        return made
    return torch.cat([made, to_mask.transpose(1, 2).flatten(1)], 1)


def deform_conv(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    heads: Tensor,  # [M, R]
    grid: Tensor,  # [K, 3]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    parts: int,
    squash: bool,
    groups: int,
) -> Tensor:  # [M, D]
    """Return `y[o] = bias + sum over t of mask[o, t] x(positions[o, t]) W[t]`, group by group."""
    del blocks
    m, taps, channels = heads.shape[0], grid.shape[0], features.shape[1]
    wide, find = accumulator(features.dtype), Finder(coords)
    x = by_group(features, parts, wide)
    w = weight.to(wide).reshape(taps, channels // groups, groups, -1)
    y = features.new_zeros(m, weight.shape[2])
    for span in spans(m, taps * 8 * (channels + 4 * parts)):
        positions, mask = spread(heads[span], grid, parts, squash)
        rows, shares, _ = cells(find, sites[span, 0], positions, wide, sites[span, 1:])
        if mask is not None:
            shares = shares * mask[..., None].to(wide)
        read = torch.einsum("mkhs,mkhsc->mkhc", shares, corners_of(x, rows))
        read = read.reshape(read.shape[0], taps, groups, channels // groups)
        total = torch.einsum("mkgc,kcgd->mgd", read, w).reshape(-1, y.shape[1])
        y[span] = (total if bias is None else total + bias.to(wide)).to(y.dtype)
    return y


def deform_conv_grad(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    heads: Tensor,  # [M, R]
    grid: Tensor,  # [K, 3]
    weight: Tensor,  # [K, C / G, D]
    grad: Tensor,  # [M, D]
    parts: int,
    squash: bool,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor]:  # [N, C], [M, R], [K, C / G, D]
    """Return the gradients of features, heads and weight."""
    del blocks
    m, taps, channels = heads.shape[0], grid.shape[0], features.shape[1]
    wide, find = accumulator(features.dtype), Finder(coords)
    x = by_group(features, parts, wide)
    w = weight.to(wide).reshape(taps, channels // groups, groups, -1)
    to_x, to_heads, to_w = torch.zeros_like(x), torch.zeros_like(heads), torch.zeros_like(w)
    for span in spans(m, taps * 8 * (2 * channels + 4 * parts)):
        positions, mask = spread(heads[span], grid, parts, squash)
        rows, shares, slopes = cells(find, sites[span, 0], positions, wide, sites[span, 1:])
        corners = corners_of(x, rows)
        g = grad[span].to(wide).reshape(-1, groups, w.shape[3])
        to_read = torch.einsum("mgd,kcgd->mkgc", g, w)
        to_read = to_read.reshape(-1, taps, parts, channels // parts)
        dots = torch.einsum("mkhc,mkhsc->mkhs", to_read, corners)
        move = torch.einsum("mkhs,mkhsa->mkha", dots, slopes)
        to_mask = None
        if mask is not None:
            mask = mask.to(wide)
            to_mask = (dots * shares).sum(-1)
            to_mask = to_mask * mask * (1 - mask) if squash else to_mask
            move, shares = move * mask[..., None], shares * mask[..., None]
        to_heads[span] = gathered(move, to_mask).to(heads.dtype)
        read = torch.einsum("mkhs,mkhsc->mkhc", shares, corners)
        read = read.reshape(-1, taps, groups, channels // groups)
        to_w += torch.einsum("mkgc,mgd->kcgd", read, g)
        put_back(to_x, rows, torch.einsum("mkhs,mkhc->mkhsc", shares, to_read))
    return (
        to_x[:-1].reshape(-1, channels).to(features.dtype),
        to_heads,
        to_w.reshape(weight.shape).to(weight.dtype),
    )
