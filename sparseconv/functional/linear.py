"""A linear map of every row, as a convolution of one tap that stays where it is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as dense

from sparseconv.functional.normed import Norm, normed_conv


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
    rows = torch.arange(count, dtype=torch.int32, device=features.device)
    segments = torch.tensor([0, count])
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
