"""A linear map of every row, as a convolution of one tap that stays where it is."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as dense

from sparseconv.functional.normed import Norm, normed_conv
from sparseconv.tensor.rulebook import keepable


def linear(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [D, C / G]
    bias: Tensor | None,  # [D]
    groups: int = 1,
    *,
    norm: Norm | None = None,
    residual: Tensor | None = None,  # [N, D]
    relu: bool = False,
) -> Tensor:  # [N, D]
    """Return `y[n] = W x[n] + b`, output group g reading input group g.

    The kernels of convolutions are made for many rows and few channels, where a general matrix
    product takes twice as long; the gradients take the same way.

    Args:
        features: float [N, C].
        weight: same dtype, [D, C / G].
        bias: same dtype, [D], or None.
        groups: G, a divisor of C and D.
        norm: normalises the result, or None.
        residual: same dtype, [N, D], added to the result, or None.
        relu: whether to replace negative results by 0.

    Returns:
        float [N, D]; under autocast in its dtype.

    Raises:
        TypeError: dtypes or devices differ.
        ValueError: channels do not fit.
    """
    count = features.shape[0]
    rows, segments = _row_by_row(features)
    by_tap = weight.t()[None]
    return normed_conv(
        features,
        by_tap,
        bias,
        rows,
        rows,
        segments,
        count,
        groups,
        norm=norm,
        residual=residual,
        relu=relu,
    )


# The one tap of the last few row counts, 4 bytes a row: a net has as many as levels, and to make it
# takes as long as the kernel does for some hundred rows.
_KEPT: OrderedDict[int, tuple[Tensor, Tensor]] = OrderedDict()
_MOST_KEPT, _MOST_ROWS = 8, 1 << 18


def _row_by_row(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return every row, int32 [N], and the one tap they belong to, int64 [2]."""
    count, device = features.shape[0], features.device
    # one that a mode or a transform of torch has made is its own alone
    plain = device.type == "cpu" and type(features) in (Tensor, nn.Parameter)
    found = _KEPT.get(count) if plain else None
    if found is not None:
        return found
    with keepable():
        rows = torch.arange(count, dtype=torch.int32, device=device)
        made = rows, torch.tensor([0, count])
    if plain and type(rows) is Tensor and count <= _MOST_ROWS:
        _KEPT[count] = made
        while len(_KEPT) > _MOST_KEPT:
            _KEPT.popitem(last=False)
    return made


def traceable_linear(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [D, C / G]
    bias: Tensor | None,  # [D]
    groups: int = 1,
    *,
    norm: Norm | None = None,
    residual: Tensor | None = None,  # [N, D]
    relu: bool = False,
) -> Tensor:  # [N, D]
    """Return what `linear` does; in a traced graph, and off the CPU, by torch's own products.

    Args and returns as for `linear`.
    """
    if features.device.type == "cpu" and not torch.compiler.is_compiling():
        return linear(features, weight, bias, groups, norm=norm, residual=residual, relu=relu)
    if groups == 1:
        y = dense.linear(features, weight, bias)
    else:
        x = features.reshape(-1, groups, weight.shape[1]).transpose(0, 1)
        w = weight.reshape(groups, -1, weight.shape[1]).transpose(1, 2)
        y = torch.bmm(x, w).transpose(0, 1).reshape(-1, weight.shape[0])
        y = y if bias is None else y + bias.to(y.dtype)
    residual = None if residual is None else residual.to(y.dtype)
    if norm is not None:
        return norm(y, add=residual, relu=relu)
    y = y if residual is None else y + residual
    return y.relu() if relu else y
