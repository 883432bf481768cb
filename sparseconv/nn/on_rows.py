"""Apply what acts on rows of channels, such as a norm, to sparse and dense tensors alike."""

from __future__ import annotations

from torch import Tensor, nn

from sparseconv.nn.sequential import call
from sparseconv.tensor.sparse_tensor import SparseTensor


def on_rows(
    module: nn.Module | None,
    x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
) -> SparseTensor | Tensor:
    """Return `module(x)`, the cells of a dense tensor being the rows [B * X * Y * Z, C].

    So a norm over active sites is one over all cells of a full grid. None changes nothing.

    Args:
        module: maps rows [N, C] to rows [N, D]; or None.
        x: sparse [N, C] or dense [B, C, X, Y, Z].

    Returns:
        Sparse [N, D] or dense [B, D, X, Y, Z].
    """
    if module is None:
        return x
    if isinstance(x, SparseTensor):
        return call(module, x)
    size, channels, *extent = x.shape
    rows = module(x.permute(0, 2, 3, 4, 1).reshape(-1, channels))
    return rows.reshape(size, *extent, rows.shape[1]).permute(0, 4, 1, 2, 3)
