"""Sums over the taps of each site with weights of its own, and the dot products of their pairs."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import DTYPES, dense, pairs, rows, taps_of


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
    features = rows("features", features)
    weights = dense("weights", weights, features.dtype, 3)
    in_rows, out_rows = pairs(in_rows, out_rows)
    segments, taps = taps_of(segments)
    num_in, channels = features.shape
    num_sites, groups = num_in if transposed else num_out, weights.shape[2]
    _check_groups(groups, channels)
    if weights.shape[:2] != (num_sites, taps):
        expected = f"{[num_sites, taps, groups]}, weights of every tap of every output site"
        raise ValueError(complain("weights", expected, f"{list(weights.shape)}"))
    y = features.new_empty(num_out, channels)
    _native.tap_sum(
        DTYPES[features.dtype],
        num_out if transposed else num_in,
        num_sites,
        channels,
        groups,
        features.data_ptr(),
        weights.data_ptr(),
        in_rows.data_ptr(),
        out_rows.data_ptr(),
        segments.data_ptr(),
        taps,
        in_rows.shape[0],
        transposed,
        y.data_ptr(),
        torch.get_num_threads(),
    )
    return y


def tap_dot(
    a: Tensor,  # [N, C]
    b: Tensor,  # [M, C]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    groups: int,
) -> Tensor:  # [M, K, G]
    """Return `e[o, t, g] = sum over pairs (i, o) of t, c in g, of a[i, c] b[o, c]`."""
    a = rows("a", a)
    b = rows("b", b, a.dtype)
    in_rows, out_rows = pairs(in_rows, out_rows)
    segments, taps = taps_of(segments)
    channels = a.shape[1]
    if b.shape[1] != channels:
        raise ValueError(complain("b", f"{channels} channels as a", f"{b.shape[1]}"))
    _check_groups(groups, channels)
    dots = a.new_empty(b.shape[0], taps, groups)
    _native.tap_dot(
        DTYPES[a.dtype],
        a.shape[0],
        b.shape[0],
        channels,
        groups,
        a.data_ptr(),
        b.data_ptr(),
        in_rows.data_ptr(),
        out_rows.data_ptr(),
        segments.data_ptr(),
        taps,
        in_rows.shape[0],
        dots.data_ptr(),
        torch.get_num_threads(),
    )
    return dots


def _check_groups(groups: int, channels: int) -> None:
    if groups < 1 or channels % groups:
        raise ValueError(complain("groups", f"a divisor of {channels} channels", f"{groups}"))
