"""Modules that act on each row of features: torch's own, taking sparse tensors too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparseconv.functional.linear import linear
from sparseconv.tensor.sparse_tensor import SparseTensor


class OnFeatures(nn.Module):
    """Apply any module to the features of a sparse tensor, row by row.

    Args:
        module: maps [N, C] to [N, D].
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(
        self,
        x: SparseTensor,  # [N, C]
    ) -> SparseTensor:  # [N, D]
        """Return `x` with `module(x.features)`."""
        return x.replace(features=self.module(x.features))


class _RowWise:
    """Makes a torch module take a sparse tensor as well as a plain one."""

    def forward(self, x: SparseTensor | Tensor) -> SparseTensor | Tensor:
        if isinstance(x, SparseTensor):
            return x.replace(features=super().forward(x.features))
        return super().forward(x)


class ReLU(_RowWise, nn.ReLU):
    """`max(x, 0)` of every feature."""


class LeakyReLU(_RowWise, nn.LeakyReLU):
    """`max(x, 0) + negative_slope * min(x, 0)` of every feature."""


class GELU(_RowWise, nn.GELU):
    """`x * Phi(x)` of every feature, Phi being the normal distribution function."""


class SiLU(_RowWise, nn.SiLU):
    """`x * sigmoid(x)` of every feature."""


class Sigmoid(_RowWise, nn.Sigmoid):
    """`1 / (1 + exp(-x))` of every feature."""


class Dropout(_RowWise, nn.Dropout):
    """Zero single features with probability `p` while training."""


class Linear(nn.Linear):
    """`y = x W^T + b` of every row: [N, C] to [N, D]."""

    def forward(self, x: SparseTensor | Tensor) -> SparseTensor | Tensor:
        """Return the mapped tensor, sparse or plain as given."""
        if not isinstance(x, SparseTensor):
            return super().forward(x)
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return x.replace(features=super().forward(x.features))
        return x.replace(features=linear(x.features, self.weight, self.bias))


class LayerNorm(_RowWise, nn.LayerNorm):
    """Normalise every row over its channels."""
