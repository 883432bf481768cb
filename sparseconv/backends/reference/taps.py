"""Sums over the taps of each site, weighted site by site, and the dot products of their pairs."""

from itertools import pairwise

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference.conv import accumulator
from sparseconv.backends.reference.pairs import pair_bounds, rows_within


def tap_sum(
    features: Tensor,  # [N, C], transposed [M, C]
    weights: Tensor,  # [M, K, G]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
    transposed: bool,
) -> Tensor:  # [M, C], transposed [N, C]
    """Return `y[o] = sum of w[o, t, g] x[i]`, transposed `y[i] = sum of w[o, t, g] x[o]`."""
    num_in, num_sites, groups = features.shape[0], weights.shape[0], weights.shape[2]
    if num_sites != (num_in if transposed else num_out):
        expected = f"{num_in if transposed else num_out} rows, one per output site"
        raise ValueError(complain("weights", expected, f"{num_sites}"))
    wide = accumulator(features.dtype)
    x, w = _by_group(features.to(wide), groups), weights.to(wide)
    inputs = rows_within("in_rows", in_rows, num_out if transposed else num_in)
    outputs = rows_within("out_rows", out_rows, num_sites)
    y = torch.zeros(num_out, *x.shape[1:], dtype=wide, device=features.device)
    bounds = pair_bounds(segments, in_rows.shape[0])
    for tap, (start, stop) in enumerate(pairwise(bounds)):
        i, o = inputs[start:stop], outputs[start:stop]
        read, written = (o, i) if transposed else (i, o)
        y.index_add_(0, written, x[read] * w[o, tap, :, None])
    return y.reshape(num_out, features.shape[1]).to(features.dtype)


def tap_dot(
    a: Tensor,  # [N, C]
    b: Tensor,  # [M, C]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    groups: int,
) -> Tensor:  # [M, K, G]
    """Return `e[o, t, g] = sum over pairs (i, o) of t, c in g, of a[i, c] b[o, c]`."""
    wide = accumulator(a.dtype)
    left, right = _by_group(a.to(wide), groups), _by_group(b.to(wide), groups)
    inputs = rows_within("in_rows", in_rows, a.shape[0])
    outputs = rows_within("out_rows", out_rows, b.shape[0])
    bounds = pair_bounds(segments, in_rows.shape[0])
    dots = torch.zeros(b.shape[0], len(bounds) - 1, groups, dtype=wide, device=a.device)
    for tap, (start, stop) in enumerate(pairwise(bounds)):
        i, o = inputs[start:stop], outputs[start:stop]
        dots[:, tap].index_add_(0, o, (left[i] * right[o]).sum(2))
    return dots.to(a.dtype)


def _by_group(
    features: Tensor,  # [N, C]
    groups: int,
) -> Tensor:  # [N, G, C / G]
    rows, channels = features.shape
    return features.reshape(rows, groups, channels // groups)
