"""A linear map of every row, as a convolution of one tap that stays where it is."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv.ops.conv import conv


def linear(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [D, C]
    bias: Tensor | None,  # [D]
) -> Tensor:  # [N, D]
    """Return `y[n] = W x[n] + b`.

    The kernels of convolutions are made for many rows and few channels, where a general matrix
    product takes twice as long; the gradients take the same way.

    Args:
        features: float [N, C].
        weight: same dtype, [D, C].
        bias: same dtype, [D], or None.

    Returns:
        float [N, D]; under autocast in its dtype.

    Raises:
        TypeError: dtypes or devices differ.
        ValueError: channels do not fit.
    """
    count = features.shape[0]
    rows = torch.arange(count, dtype=torch.int32, device=features.device)
    segments = torch.tensor([0, count])
    return conv(features, weight.t()[None], bias, rows, rows, segments, count)
