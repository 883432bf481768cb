"""What: means of each site's neighbours, weighed by a softmax of likeness and place."""

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import relation as reference
from sparseconv.backends.reference.conv import accumulator
from sparseconv.ops._checks import check_features, check_pairs, describe
from sparseconv.ops._registry import compiled, define
from sparseconv.ops.taps import tap_sum

# in the order of the kernels' numbers
LIKENESS = ("sqdiff", "absdiff", "dot")


def _fake_mean(features, query, key, prior, in_rows, out_rows, segments, kind):
    return features.new_empty(query.shape[0], features.shape[1]), query.new_empty(query.shape)


def _fake_grad(grad, features, query, key, prior, *_):
    return tuple(value.new_empty(value.shape) for value in (features, query, key, prior))


def _setup(ctx, inputs, output):
    *tensors, ctx.kind = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx, grad, _):
    *tensors, log_total = ctx.saved_tensors
    given, book = tensors[:4], tensors[4:]
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        # a second derivative is wanted: through ops that have one, with all weights held
        wanted = [v for v, need in zip(given, ctx.needs_input_grad, strict=False) if need]
        weights = relation_shares(*given[1:], *book, LIKENESS[ctx.kind])
        mean = tap_sum(given[0], weights.to(given[0].dtype), *book, given[1].shape[0])
        made = iter(torch.autograd.grad(mean, wanted, grad, create_graph=True, allow_unused=True))
        grads = [next(made) if need else None for need in ctx.needs_input_grad[:4]]
    else:
        grads = _relation_mean_grad(grad, *given, log_total, *book, ctx.kind)
    return *grads, *[None] * 4


_relation_mean = define(
    "relation_mean(Tensor features, Tensor query, Tensor key, Tensor prior, Tensor in_rows, "
    "Tensor out_rows, Tensor segments, int kind) -> (Tensor, Tensor)",
    reference=reference.relation_mean,
    compiled=compiled("relation", "relation_mean"),
    fake=_fake_mean,
    setup=_setup,
    backward=_backward,
)
_relation_mean_grad = define(
    "relation_mean_grad(Tensor grad, Tensor features, Tensor query, Tensor key, Tensor prior, "
    "Tensor log_total, Tensor in_rows, Tensor out_rows, Tensor segments, int kind) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    reference=reference.relation_mean_grad,
    compiled=compiled("relation", "relation_mean_grad"),
    fake=_fake_grad,
)


def relation_mean(
    features: Tensor,  # [N, C]
    query: Tensor,  # [M, G]
    key: Tensor,  # [N, G]
    prior: Tensor,  # [K, G]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    likeness: str,
) -> Tensor:  # [M, C]
    """Average each site's neighbours, weighed by how well they go with it and by where they lie.

    `y[o, c] = sum over pairs (i, o) of taps t of w[o, t, g(c)] x[i, c]` with `g(c) = c // (C / G)`
    and `w[o, ., g]` the softmax, over the taps that o has a pair of, of
    `Phi(q[o, g], k[i, g]) + prior[t, g]`. Weights are made a few rows at a time and made
    again for gradients: nothing of size M K G is held, but for second derivatives. Under autocast
    features are cast to its dtype; logits and softmax are float32 at least.

    Args:
        features: float [N, C].
        query: float [M, G], G a divisor of C.
        key: float [N, G].
        prior: float [K, G], of the taps.
        in_rows: int32 [P], below N, each at most once a tap.
        out_rows: int32 [P], below M, each at most once a tap.
        segments: int64 [K + 1], the pairs of tap t being `segments[t]:segments[t + 1]`.
        likeness: Phi: `"sqdiff"` for -(q - k)^2, `"absdiff"` for -|q - k|, `"dot"` for q k.

    Returns:
        float [M, C], 0 for a site without pairs. Differentiable twice.

    Raises:
        TypeError: dtypes differ.
        ValueError: rows, taps, groups or channels do not fit, or a tap pairs a row twice.
    """
    device = features.device.type
    if torch.is_autocast_enabled(device) and features.dtype != torch.float64:
        features = features.to(torch.get_autocast_dtype(device))
    check_features("features", features)
    check_pairs(in_rows, out_rows)
    wide = accumulator(features.dtype)
    query, key, prior = query.to(wide), key.to(wide), prior.to(wide)
    _check(features, query, key, prior, segments)
    if likeness not in LIKENESS:
        expected = f"one of {', '.join(map(repr, LIKENESS))}"
        raise ValueError(complain("likeness", expected, repr(likeness)))
    kind = LIKENESS.index(likeness)
    book = in_rows, out_rows, segments
    return _relation_mean(features, query, key, prior, *book, kind)[0]


def relation_shares(
    query: Tensor,  # [M, G]
    key: Tensor,  # [N, G]
    prior: Tensor,  # [K, G]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    likeness: str,
) -> Tensor:  # [M, K, G]
    """Return the weights of `relation_mean`, 0 at taps that a site has no pair of.

    Args and raises as for `relation_mean`.
    """
    taps = torch.arange(prior.shape[0], device=prior.device).repeat_interleave(
        segments.to(prior.device).diff(), output_size=in_rows.shape[0]
    )
    kind = LIKENESS.index(likeness)
    rows = in_rows.long(), out_rows.long()
    return reference.shares(query, key, prior, *rows, taps, kind)[0]


def _check(features, query, key, prior, segments) -> None:
    (rows, channels), taps = features.shape, segments.shape[0] - 1
    groups = query.shape[-1]
    if query.dim() != 2 or groups < 1 or channels % groups:
        expected = f"shape [M, G], G a divisor of {channels} channels"
        raise ValueError(complain("query", expected, describe(query)))
    if key.dim() != 2 or key.shape[1] != groups:
        raise ValueError(complain("key", f"shape [N, {groups}]", describe(key)))
    if prior.shape != (taps, groups):
        raise ValueError(complain("prior", f"shape {[taps, groups]}", describe(prior)))
    if not torch.compiler.is_compiling() and key.shape[0] != rows:
        raise ValueError(complain("key", f"{rows} rows as features", describe(key)))
