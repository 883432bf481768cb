"""Convolutions of two resolutions that exchange, and their gradients, in plain torch."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sparseconv.backends.reference.conv import accumulator, conv, conv_grad_weight
from sparseconv.backends.reference.pairs import rows_within


def octave_conv(
    features: Tensor,  # [N, C], or [N, C_H] beside `low`
    low: Tensor | None,  # [M, C_L]
    high_to_high: Tensor,  # [K, C_H, D_H]
    high_to_low: Tensor,  # [K, C_H, D_L]
    low_to_high: Tensor,  # [K, C_L, D_H]
    low_to_low: Tensor,  # [K, C_L, D_L]
    bias: Tensor | None,  # [D]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    low_in_rows: Tensor,  # [Q] int32
    low_out_rows: Tensor,  # [Q] int32
    low_segments: Tensor,  # [K + 1] int64
    children: Tensor | None,  # [M + N + 69] int64
    parents: Tensor,  # [N] int32
    counts: Tensor,  # [M] int64
    adjoint: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # [N, D] or [N, D_H], [0 or M, D_L], [M, C]
    """Return the high part, or both side by side, the low part, and what the low lattice read.

    The adjoint mirrors the taps and divides what is lifted, instead of what is summed.
    """
    channels, width, num_low = *high_to_high.shape[1:], counts.shape[0]
    kind = 1, True, adjoint

    def at_parents(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return conv(x, weight, bias, low_in_rows, low_out_rows, low_segments, num_low, *kind)

    pooled = parent_sum(features, children, parents, counts, not adjoint)
    if low is not None:
        pooled = torch.cat([pooled, low], 1)
    near, own = (None, None) if bias is None else (bias[:width], bias[width:])
    far = at_parents(pooled, torch.cat([high_to_low, low_to_low], 1), own)
    up = at_parents(pooled[:, channels:], low_to_high, None)
    lifted = up if low is not None else torch.cat([up, far], 1)
    if adjoint:
        lifted = _divided(lifted, counts)
    lifted = lifted[rows_within("parents", parents, num_low)]
    num = features.shape[0]
    given = features[:, :channels], high_to_high, near, in_rows, out_rows, segments, num
    y = conv(*given, *kind) + lifted[:, :width]
    if low is not None:
        return y, far, pooled
    return torch.cat([y, lifted[:, width:]], 1), far.new_empty(0, far.shape[1]), pooled


def parent_sum(
    features: Tensor,  # [N, C]
    children: Tensor | None,  # [M + N + 69] int64
    parents: Tensor,  # [N] int32
    counts: Tensor,  # [M] int64
    divided: bool,
) -> Tensor:  # [M, C]
    """Return the sum of each parent's children, divided by its count where asked for."""
    wide = accumulator(features.dtype)
    total = torch.zeros(counts.shape[0], features.shape[1], dtype=wide, device=features.device)
    total.index_add_(0, rows_within("parents", parents, counts.shape[0]), features.to(wide))
    return (_divided(total, counts) if divided else total).to(features.dtype)


def _divided(x: Tensor, counts: Tensor) -> Tensor:
    return (x.to(accumulator(x.dtype)) / counts[:, None]).to(x.dtype)


class Primitives(NamedTuple):
    """What the gradients are made of: here, compiled, or as ops that have gradients again."""

    octave_conv: Callable[..., tuple[Tensor, Tensor, Tensor]]
    conv_grad_weight: Callable[..., Tensor]
    parent_sum: Callable[..., Tensor]


def gradients(
    of: Primitives,
    grad: Tensor,  # [N, D] or [N, D_H]
    grad_low: Tensor | None,  # [M, D_L]
    features: Tensor,  # [N, C] or [N, C_H]
    high_to_high: Tensor,
    high_to_low: Tensor,
    low_to_high: Tensor,
    low_to_low: Tensor,
    pooled: Tensor,  # [M, C]
    in_rows: Tensor,
    out_rows: Tensor,
    segments: Tensor,
    low_in_rows: Tensor,
    low_out_rows: Tensor,
    low_segments: Tensor,
    children: Tensor | None,
    parents: Tensor,
    counts: Tensor,
    adjoint: bool,
    need_input: bool,
    need_weights: bool,
    need_bias: bool,
) -> tuple[Tensor, ...]:
    """Return the gradients of `octave_conv`: of both inputs, three of weights, that of the bias.

    What the adjoint reads at the parents is the gradient of what the forward pass wrote there.

    Returns:
        Of features and low; of high to high, of high and low to low side by side, of low to high;
        of the bias. Those not needed are empty.
    """
    high, width = high_to_high.shape[1:]
    book = in_rows, out_rows, segments
    below = low_in_rows, low_out_rows, low_segments
    family = children, parents, counts
    to_features, to_low, to_near, to_both, to_up, to_bias = (grad.new_empty(0) for _ in range(6))
    if need_input:
        turned = (w.transpose(1, 2) for w in (high_to_high, low_to_high, high_to_low, low_to_low))
        to_features, to_low, to_pooled = of.octave_conv(
            grad, grad_low, *turned, None, *book, *below, *family, not adjoint
        )
    else:
        to_pooled = of.parent_sum(grad, *family, adjoint)
        if grad_low is not None:
            to_pooled = torch.cat([to_pooled, grad_low], 1)
    if need_weights:
        kind = 1, True, adjoint, high_to_high.dtype != features.dtype, None
        near = features[:, :high], grad[:, :width]
        to_near = of.conv_grad_weight(*near, *book, *kind)
        to_both = of.conv_grad_weight(pooled, to_pooled[:, width:], *below, *kind)
        to_up = of.conv_grad_weight(pooled[:, high:], to_pooled[:, :width], *below, *kind)
    if need_bias:
        # what parents were given is summed over their children already
        to_bias = to_pooled.sum(0)
        if adjoint:
            to_bias = torch.cat([grad[:, :width].sum(0), to_bias[width:]])
    return to_features, to_low, to_near, to_both, to_up, to_bias


def octave_conv_grad(*args: object) -> tuple[Tensor, ...]:
    """Return `gradients` by this backend."""
    return gradients(Primitives(octave_conv, conv_grad_weight, parent_sum), *args)
