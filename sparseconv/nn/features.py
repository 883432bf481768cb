"""Modules that act on each row of features: torch's own, taking sparse tensors too."""

from __future__ import annotations

from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.linear import traceable_linear
from sparseconv.functional.normed import Norm
from sparseconv.ops._checks import describe
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

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C]
        *,
        norm: Norm | None = None,
        add: SparseTensor | None = None,  # [N, D]
        relu: bool = False,
    ) -> SparseTensor | Tensor:  # [N, D]
        """Return the mapped tensor, sparse or plain as given.

        Args:
            x: what is mapped.
            norm: normalises the result.
            add: added to the result, which has its shape.
            relu: whether to clip the sum below at 0. Without gradients neither takes a pass of its
                own.

        Raises:
            TypeError: a plain tensor with anything to do behind the map.
        """
        if not isinstance(x, SparseTensor):
            if norm is not None or add is not None or relu:
                raise TypeError(
                    complain("x", "a SparseTensor where norm, add or relu are given", describe(x))
                )
            return super().forward(x)
        y = traceable_linear(
            x.features,
            self.weight,
            self.bias,
            norm=norm,
            residual=None if add is None else add.features,
            relu=relu,
        )
        return x.replace(features=y)


class LayerNorm(_RowWise, nn.LayerNorm):
    """Normalise every row over its channels."""
