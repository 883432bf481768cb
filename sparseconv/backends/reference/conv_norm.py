"""A convolution and the batch norm of its result in plain torch."""

from torch import Tensor

from sparseconv.backends.reference.conv import conv
from sparseconv.backends.reference.norm import batch_norm


def conv_norm(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
    groups: int,
    symmetric: bool,
    by_row: Tensor | None,
    scale: Tensor | None,  # [D]
    shift: Tensor | None,  # [D]
    residual: Tensor | None,  # [M, D]
    eps: float,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # [M, D], [M, D], [D], [D]
    """Return `batch_norm` of what `conv` gives, that itself, and the statistics of its rows."""
    x = conv(features, weight, bias, in_rows, out_rows, segments, num_out, groups)
    y, mean, var = batch_norm(x, scale, shift, residual, eps, relu)
    return y, x, mean, var
