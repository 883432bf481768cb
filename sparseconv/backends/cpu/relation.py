"""Means of neighbours weighed by a softmax of likeness and place, and their gradients."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import DTYPES, dense, pairs, rows, taps_of
from sparseconv.backends.reference.conv import accumulator


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
    held, given = _given(features, query, key, prior, in_rows, out_rows, segments, kind)
    y = features.new_empty(query.shape[0], features.shape[1])
    log_total = torch.empty_like(held[1])
    _native.relation_mean(
        **given,
        y=y.data_ptr(),
        log_total=log_total.data_ptr(),
        threads=torch.get_num_threads(),
    )
    return y, log_total


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
    held, given = _given(features, query, key, prior, in_rows, out_rows, segments, kind)
    grad = rows("grad", grad, features.dtype)
    log_total = dense("log_total", log_total, query.dtype, 2)
    if grad.shape != (query.shape[0], features.shape[1]) or log_total.shape != query.shape:
        expected = f"{[query.shape[0], features.shape[1]]}, as the result"
        raise ValueError(complain("grad", expected, f"{list(grad.shape)}"))
    made = [torch.empty_like(value) for value in held[:4]]
    to = ("grad_x", "grad_query", "grad_key", "grad_prior")
    _native.relation_mean_grad(
        **given,
        log_total=log_total.data_ptr(),
        grad=grad.data_ptr(),
        **{name: value.data_ptr() for name, value in zip(to, made, strict=True)},
        threads=torch.get_num_threads(),
    )
    return tuple(made)


def _given(features, query, key, prior, in_rows, out_rows, segments, kind):
    """Return the tensors to keep alive, and what both kernels take of them."""
    features = rows("features", features)
    wide = accumulator(features.dtype)
    query, key, prior = (
        dense(name, value, wide, 2)
        for name, value in (("query", query), ("key", key), ("prior", prior))
    )
    in_rows, out_rows = pairs(in_rows, out_rows)
    segments, taps = taps_of(segments)
    (num_in, channels), (num_out, groups) = features.shape, query.shape
    if groups < 1 or channels % groups:
        raise ValueError(complain("query", f"a divisor of {channels} channels", f"{groups}"))
    if key.shape != (num_in, groups) or prior.shape != (taps, groups):
        expected = f"{[num_in, groups]} and {[taps, groups]}"
        found = f"{list(key.shape)} and {list(prior.shape)}"
        raise ValueError(complain("key and prior", expected, found))
    held = (features, query, key, prior, in_rows, out_rows, segments)
    names = ("x", "query", "key", "prior", "in", "out", "segments")
    given = {name: value.data_ptr() for name, value in zip(names, held, strict=True)}
    given.update(dtype=DTYPES[features.dtype], num_in=num_in, num_out=num_out)
    given.update(channels=channels, groups=groups, kind=kind)
    given.update(taps=taps, count=in_rows.shape[0])
    return held, given
