"""Means of neighbours weighed by a softmax of likeness and place, and their gradients."""

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference.conv import accumulator
from sparseconv.backends.reference.pairs import pair_bounds, rows_within
from sparseconv.backends.reference.taps import tap_dot, tap_sum

LIKENESS = (
    lambda q, k: -((q - k) ** 2),
    lambda q, k: -(q - k).abs(),
    lambda q, k: q * k,
)
SLOPES = (
    lambda q, k: (-2 * (q - k), 2 * (q - k)),
    lambda q, k: (-(q - k).sign(), (q - k).sign()),
    lambda q, k: (k, q),
)


def shares(
    query: Tensor,  # [M, G]
    key: Tensor,  # [N, G]
    prior: Tensor,  # [K, G]
    inputs: Tensor,  # [P] int64
    outputs: Tensor,  # [P] int64
    taps: Tensor,  # [P] int64
    kind: int,
) -> tuple[Tensor, Tensor]:  # [M, K, G], [M, G]
    """Return the softmax weights, 0 at absent taps, and the logarithm of what divided them."""
    sites, count, groups = query.shape[0], prior.shape[0], query.shape[1]
    logits = LIKENESS[kind](query[outputs], key[inputs]) + prior[taps]
    place = (outputs * count + taps)[:, None].expand(-1, groups)
    spread = logits.new_full((sites * count, groups), -torch.inf).scatter(0, place, logits)
    spread = spread.unflatten(0, (sites, count))
    # rows without pairs: no tap is above -inf, and all shares are 0
    top = spread.detach().amax(1, keepdim=True).clamp(min=torch.finfo(logits.dtype).min)
    values = (spread - top).exp()
    total = values.sum(1, keepdim=True)
    total = torch.where(total == 0, 1, total)
    there = top > torch.finfo(logits.dtype).min
    log_total = torch.where(there, top, 0) + total.log()
    return values / total, log_total.squeeze(1)


def relation_mean(
    features: Tensor,  # [N, C]
    query: Tensor,  # [M, G]
    key: Tensor,  # [N, G]
    prior: Tensor,  # [K, G]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    kind: int,
) -> tuple[Tensor, Tensor]:  # [M, C], [M, G]
    """Return the means, and the logarithm of what the weights of a row were divided by."""
    pairs = _pairs(features, query, in_rows, out_rows, segments)
    weights, log_total = shares(query, key, prior, *pairs, kind)
    book = in_rows, out_rows, segments, query.shape[0], False
    return tap_sum(features, weights.to(features.dtype), *book), log_total


def relation_mean_grad(
    grad: Tensor,  # [M, C]
    features: Tensor,  # [N, C]
    query: Tensor,  # [M, G]
    key: Tensor,  # [N, G]
    prior: Tensor,  # [K, G]
    log_total: Tensor,  # [M, G]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    kind: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # [N, C], [M, G], [N, G], [K, G]
    """Return the gradients of features, query, key and prior."""
    pairs = _pairs(features, query, in_rows, out_rows, segments)
    inputs, outputs, taps = pairs
    weights, _ = shares(query, key, prior, *pairs, kind)
    book = in_rows, out_rows, segments
    narrow = weights.to(features.dtype)
    grad_features = tap_sum(grad, narrow, *book, features.shape[0], True)
    wide = accumulator(features.dtype)
    dots = tap_dot(features.to(wide), grad.to(wide), *book, query.shape[1])
    slopes = weights * (dots - (weights * dots).sum(1, keepdim=True))
    by_query, by_key = SLOPES[kind](query[outputs], key[inputs])
    of_pair = slopes[outputs, taps]
    return (
        grad_features,
        torch.zeros_like(query).index_add_(0, outputs, of_pair * by_query),
        torch.zeros_like(key).index_add_(0, inputs, of_pair * by_key),
        slopes.sum(0),
    )


def _pairs(features, query, in_rows, out_rows, segments):
    bounds = pair_bounds(segments, in_rows.shape[0])
    inputs = rows_within("in_rows", in_rows, features.shape[0])
    outputs = rows_within("out_rows", out_rows, query.shape[0])
    taps = torch.arange(len(bounds) - 1, device=in_rows.device).repeat_interleave(
        segments.to(in_rows.device).diff()
    )
    for rows, count in ((outputs, query.shape[0]), (inputs, features.shape[0])):
        if (torch.bincount(taps * count + rows) > 1).any():
            expected, found = "taps that pair a row with one other", "two pairs of a row"
            raise ValueError(complain("segments", expected, found))
    return inputs, outputs, taps
