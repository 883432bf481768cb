"""Sums of trilinear samples whose places and weights are predicted row by row, in plain torch."""

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


def _predicted(
    query: Tensor,  # [M, Q]
    weight: Tensor,  # [4 G K, Q]
    bias: Tensor,  # [4 G K]
    grid: Tensor,  # [K, 3]
    groups: int,
    softmax: bool,
) -> tuple[Tensor, Tensor]:  # [M, K, G, 3], [M, K, G]
    """Return positions, counted from the sites, and the weights of taps."""
    heads = query @ weight.t() + bias
    cut = 3 * groups * grid.shape[0]
    offsets = heads[:, :cut].reshape(-1, groups, grid.shape[0], 3).transpose(1, 2)
    mask = heads[:, cut:].reshape(-1, groups, grid.shape[0]).transpose(1, 2)
    return grid[:, None] + offsets, mask.softmax(1) if softmax else mask


def _over_mass(
    shares: Tensor,  # [M, K, G, 8]
    present: Tensor,  # [M, K, G, 8]
) -> Tensor:  # [M, 1, G, 1]
    """Return one over the weight that fell on sites, 0 where nothing did."""
    mass = (shares * present).sum((1, 3), keepdim=True)
    some = mass >= torch.finfo(mass.dtype).tiny
    return torch.where(some, 1 / torch.where(some, mass, 1), 0)


def moved_sum(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    query: Tensor,  # [M, Q]
    weight: Tensor,  # [4 G K, Q]
    bias: Tensor,  # [4 G K]
    grid: Tensor,  # [K, 3]
    groups: int,
    softmax: bool,
    renormalize: bool,
) -> Tensor:  # [M, C]
    """Return `y[o, c] = sum over t of m[o, g, t] x(site(o) + grid[t] + d[o, g, t])[c]`."""
    del blocks
    m, channels = query.shape[0], features.shape[1]
    wide, find = accumulator(features.dtype), Finder(coords)
    x, y = by_group(features, groups, wide), features.new_zeros(m, channels)
    for span in spans(m, grid.shape[0] * 8 * (channels + 4 * groups)):
        given = query[span].to(wide), weight, bias, grid, groups, softmax
        positions, mask = _predicted(*given)
        rows, shares, _ = cells(find, sites[span, 0], positions, wide, sites[span, 1:])
        shares = shares * mask[..., None]
        if renormalize:
            shares = shares * _over_mass(shares, rows < find.count)
        total = torch.einsum("mkgs,mkgsc->mgc", shares, corners_of(x, rows))
        y[span] = total.reshape(-1, channels).to(y.dtype)
    return y


def moved_sum_grad(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    query: Tensor,  # [M, Q]
    weight: Tensor,  # [4 G K, Q]
    bias: Tensor,  # [4 G K]
    grid: Tensor,  # [K, 3]
    groups: int,
    softmax: bool,
    renormalize: bool,
    grad: Tensor,  # [M, C]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # [N, C], [M, Q], [4 G K, Q], [4 G K]
    """Return the gradients of features, query, weight and bias."""
    del blocks
    m, channels = query.shape[0], features.shape[1]
    wide, find = accumulator(features.dtype), Finder(coords)
    x = by_group(features, groups, wide)
    to_x, to_query = torch.zeros_like(x), torch.zeros_like(query)
    to_weight, to_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    for span in spans(m, grid.shape[0] * 8 * (2 * channels + 4 * groups)):
        seen = query[span].to(wide)
        positions, mask = _predicted(seen, weight, bias, grid, groups, softmax)
        rows, near, slopes = cells(find, sites[span, 0], positions, wide, sites[span, 1:])
        g = grad[span].to(wide).reshape(-1, groups, channels // groups)
        dots = torch.einsum("mgc,mkgsc->mkgs", g, corners_of(x, rows))
        shares = near * mask[..., None]
        if renormalize:
            present = rows < find.count
            over = _over_mass(shares, present)
            shares = shares * over
            # what is divided by grows with every share, too
            mean = (shares * dots).sum((1, 3), keepdim=True)
            dots = (dots - mean) * over * present
        move = torch.einsum("mkgs,mkgsa->mkga", dots, slopes) * mask[..., None]
        to_mask = (dots * near).sum(-1)
        if softmax:
            to_mask = mask * (to_mask - (mask * to_mask).sum(1, keepdim=True))
        parts = move.transpose(1, 2).flatten(1), to_mask.transpose(1, 2).flatten(1)
        to_heads = torch.cat(parts, 1)
        to_query[span] = (to_heads @ weight).to(to_query.dtype)
        to_weight += to_heads.t() @ seen
        to_bias += to_heads.sum(0)
        put_back(to_x, rows, torch.einsum("mkgs,mgc->mkgsc", shares, g))
    return to_x[:-1].reshape(-1, channels).to(features.dtype), to_query, to_weight, to_bias
