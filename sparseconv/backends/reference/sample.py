"""Reading between sites in plain torch: trilinear samples and their weighted sums."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sparseconv.backends.reference.conv import accumulator

# how many numbers the samples of the rows worked on at a time may take
ROOM = 1 << 22
LIMIT = 2**31


class Finder:
    """Rows of sites, by the rank of each number among those that occur: exact, and sorts once."""

    def __init__(
        self,
        coords: Tensor,  # [N, 4] int32
    ) -> None:
        self.count = coords.shape[0]
        self.steps = []
        columns = coords.to(torch.int64)
        key = torch.zeros_like(columns[:, 0])
        for axis in range(4):
            values, rank = torch.unique(columns[:, axis], return_inverse=True)
            keys, key = torch.unique(key * values.shape[0] + rank, return_inverse=True)
            self.steps.append((values, keys))
        rows = torch.arange(self.count, device=coords.device)
        self.row = torch.full((self.count,), self.count, dtype=torch.int64, device=coords.device)
        self.row.scatter_reduce_(0, key, rows, "amin")

    def rows(
        self,
        sites: Tensor,  # [..., 4] int64
    ) -> Tensor:  # [...] int64
        """Return the lowest row of each site, N where there is none."""
        if self.count == 0:
            return torch.zeros_like(sites[..., 0])
        key = torch.zeros_like(sites[..., 0])
        known = torch.ones_like(key, dtype=torch.bool)
        for axis, (values, keys) in enumerate(self.steps):
            rank, there = _rank(values, sites[..., axis].contiguous())
            key, also = _rank(keys, key * values.shape[0] + rank)
            known &= there & also
        return torch.where(known, self.row[key], self.count)


def _rank(
    values: Tensor,  # [U] rising
    wanted: Tensor,  # [...]
) -> tuple[Tensor, Tensor]:
    at = torch.searchsorted(values, wanted).clamp(max=values.shape[0] - 1)
    return at, values[at] == wanted


def cells(
    find: Finder,
    items: Tensor,  # [M] int32
    positions: Tensor,  # [M, K, G, 3]
    wide: torch.dtype,
    base: Tensor | None = None,  # [M, 3]
) -> tuple[Tensor, Tensor, Tensor]:  # [M, K, G, 8] int64, [M, K, G, 8], [M, K, G, 8, 3]
    """Return row, weight and the weight's slope of the eight corners about each position.

    Rows of absent corners are N. At an integer the slope is that of the cell above it. A position
    that is not a number, or beyond what coordinates can be, has no corner. Positions are counted
    from a base, where there is one.
    """
    low = positions.floor()
    inside = ((low >= -LIMIT) & (low < LIMIT)).all(-1)
    low = torch.where(inside[..., None], low, 0)
    fraction = torch.where(inside[..., None], positions - low, 0).to(wide)
    xyz = low.to(torch.int64)
    if base is not None:
        xyz = xyz + base.to(torch.int64)[:, None, None]
        inside = inside & ((xyz >= -LIMIT) & (xyz < LIMIT)).all(-1)
    item = items.to(torch.int64)[:, None, None].expand(xyz.shape[:-1])
    rows, shares, slopes = [], [], []
    for corner in range(8):
        upper = [corner >> 2 & 1, corner >> 1 & 1, corner & 1]
        step = torch.tensor(upper, device=xyz.device)
        row = find.rows(torch.cat([item[..., None], xyz + step], -1))
        rows.append(torch.where(inside, row, find.count))
        x, y, z = (fraction[..., a] if upper[a] else 1 - fraction[..., a] for a in range(3))
        sign = (2 * step - 1).to(wide)
        shares.append(x * y * z)
        slopes.append(torch.stack([y * z, x * z, x * y], -1) * sign)
    return torch.stack(rows, -1), torch.stack(shares, -1), torch.stack(slopes, -2)


def spans(count: int, numbers: int) -> Iterator[slice]:
    """Yield rows 0 to `count` in pieces of at most ROOM numbers, where a row takes `numbers`."""
    step = max(ROOM // max(numbers, 1), 1)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def by_group(
    features: Tensor,  # [N, C]
    groups: int,
    wide: torch.dtype,
) -> Tensor:  # [N + 1, G, C / G]
    """Split channels into groups, with a row of zeros for sites that are absent."""
    count, channels = features.shape
    split = features.to(wide).reshape(count, groups, channels // groups)
    return torch.cat([split, split.new_zeros(1, groups, channels // groups)])


def corners_of(
    x: Tensor,  # [N + 1, G, C / G]
    rows: Tensor,  # [M, K, G, 8] int64
) -> Tensor:  # [M, K, G, 8, C / G]
    """Gather the features of every corner."""
    group = torch.arange(x.shape[1], device=x.device)[:, None]
    return x[rows, group]


def normalized(
    shares: Tensor,  # [M, K, G, 8]
    there: Tensor,  # [M, K, G, 8] bool
) -> tuple[Tensor, Tensor]:  # [M, K, G, 8], [M, K, G, 1]
    """Return the shares of corners that are there over their sum, and that sum, infinite for 0."""
    shares = torch.where(there, shares, 0)
    total = shares.sum(-1, keepdim=True)
    total = torch.where(total > 0, total, torch.inf)
    return shares / total, total


def put_back(
    grad: Tensor,  # [N + 1, G, C / G], added to
    rows: Tensor,  # [M, K, G, 8] int64
    parts: Tensor,  # [M, K, G, 8, C / G]
) -> None:
    """Add to every corner what came of it."""
    count, groups, width = grad.shape
    flat = rows * groups + torch.arange(groups, device=rows.device)[:, None]
    grad.view(count * groups, width).index_add_(0, flat.reshape(-1), parts.reshape(-1, width))


def sample_sum(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    items: Tensor,  # [M] int32
    positions: Tensor,  # [M, K, G, 3]
    weights: Tensor | None,  # [M, K, G]
    normalize: bool,
) -> Tensor:  # [M, C]
    """Return `y[o, c] = sum over t of weights[o, t, g(c)] x(positions[o, t, g(c)])[c]`."""
    del blocks
    (m, taps, groups, _), channels = positions.shape, features.shape[1]
    wide, find = accumulator(features.dtype), Finder(coords)
    x = by_group(features, groups, wide)
    y = features.new_zeros(m, channels)
    for span in spans(m, taps * 8 * (channels + 4 * groups)):
        rows, shares, _ = cells(find, items[span], positions[span], wide)
        if normalize:
            shares, _ = normalized(shares, rows < find.count)
        if weights is not None:
            shares = shares * weights[span, ..., None].to(wide)
        total = torch.einsum("mkgs,mkgsc->mgc", shares, corners_of(x, rows))
        y[span] = total.reshape(-1, channels).to(y.dtype)
    return y


def sample_sum_grad(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    items: Tensor,  # [M] int32
    positions: Tensor,  # [M, K, G, 3]
    weights: Tensor | None,  # [M, K, G]
    grad: Tensor,  # [M, C]
    normalize: bool,
    moved: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # [N, C], [M, K, G, 3] or [0], [M, K, G] or [0]
    """Return the gradients of features and, where `moved`, of positions and weights."""
    del blocks
    (m, taps, groups, _), channels = positions.shape, features.shape[1]
    wide, find = accumulator(features.dtype), Finder(coords)
    x = by_group(features, groups, wide)
    to_x = torch.zeros_like(x)
    to_positions = positions.new_zeros(positions.shape if moved else 0)
    to_weights = features.new_zeros((m, taps, groups) if moved and weights is not None else 0)
    for span in spans(m, taps * 8 * (2 * channels + 4 * groups)):
        rows, shares, slopes = cells(find, items[span], positions[span], wide)
        g = grad[span].to(wide).reshape(-1, groups, channels // groups)
        there, total = rows < find.count, 1
        if normalize:
            shares, total = normalized(shares, there)
        w = 1 if weights is None else weights[span, ..., None].to(wide)
        if moved:
            dots = torch.einsum("mgc,mkgsc->mkgs", g, corners_of(x, rows))
            sample = (dots * shares).sum(-1)
            if normalize:
                # a mean moves by how its corners differ from it
                dots = torch.where(there, dots - sample[..., None], 0) / total
            move = torch.einsum("mkgs,mkgsa->mkga", dots, slopes)
            to_positions[span] = (move * w).to(to_positions.dtype)
            if weights is not None:
                to_weights[span] = sample.to(to_weights.dtype)
        shares = shares * w
        put_back(to_x, rows, torch.einsum("mkgs,mgc->mkgsc", shares, g))
    return to_x[:-1].reshape(-1, channels).to(features.dtype), to_positions, to_weights
