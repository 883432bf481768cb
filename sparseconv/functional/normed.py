"""A convolution and the batch norm behind it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sparseconv.ops.conv import conv
from sparseconv.ops.conv_norm import conv_norm
from sparseconv.ops.norm import Learned, Normalize


class Norm(Protocol):
    """What a convolution asks of the norm behind it, such as `sparseconv.nn.norm.BatchNorm`."""

    def known(self, rows: int) -> Normalize | None:
        """Return what normalises so many rows, None where that takes the rows themselves."""

    def learned(self) -> Learned:
        """Return what acts on rows that are normalised by themselves."""

    def track(self, mean: Tensor, var: Tensor, rows: int) -> None:
        """Take in the statistics of so many rows."""

    def __call__(self, x: Tensor, *, add: Tensor | None, relu: bool) -> Tensor:
        """Normalise rows, add others and clip at 0."""


def normed_conv(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    num_out: int,
    groups: int = 1,
    *,
    norm: Norm | None,
    symmetric: bool = False,
    by_row: Tensor | None = None,  # [M + P + 69] int64
    residual: Tensor | None = None,  # [M, D]
    relu: bool = False,
) -> Tensor:  # [M, D]
    """Return `conv` of the arguments, and where there is a norm that of its result.

    Residual and ReLU come after the norm. Arguments and errors otherwise as for `conv`.
    """
    book = features, weight, bias, in_rows, out_rows, segments, num_out, groups
    kind = {"symmetric": symmetric, "by_row": by_row}
    if norm is None:
        return conv(*book, **kind, residual=residual, relu=relu)
    if not _at_once(features, residual):
        return norm(conv(*book, **kind), add=residual, relu=relu)
    known = norm.known(num_out)
    if known is not None:
        return conv(*book, **kind, norm=known, residual=residual, relu=relu)
    if num_out < 2:
        return norm(conv(*book, **kind), add=residual, relu=relu)
    scale, shift, eps = norm.learned()
    of_norm = {"scale": scale, "shift": shift, "eps": eps}
    y, mean, var = conv_norm(*book, **kind, **of_norm, residual=residual, relu=relu)
    norm.track(mean, var, num_out)
    return y


def _at_once(features: Tensor, residual: Tensor | None) -> bool:
    """Return whether a kernel can normalise, and the residual has the dtype of the result."""
    if torch.compiler.is_compiling() or not features.is_cpu:
        return False
    if residual is None:
        return True
    if torch.is_autocast_enabled("cpu") and features.dtype != torch.float64:
        return residual.dtype == torch.get_autocast_dtype("cpu")
    return residual.dtype == features.dtype
