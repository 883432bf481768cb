"""A chain of sparse layers and ordinary torch modules."""

from __future__ import annotations

from torch import Tensor, nn

from sparseconv.tensor.sparse_tensor import SparseTensor


def call(module: nn.Module, x: SparseTensor | Tensor) -> SparseTensor | Tensor:
    """Call a module on a sparse tensor: torch's own modules act on its features.

    Args:
        module: a layer of this library or of yours gets the sparse tensor; a module that torch
            defines (`Linear`, `LayerNorm`, `GELU`, `Dropout`, `SyncBatchNorm`, ...) gets the
            features; a `torch.nn.Sequential` is walked through.
        x: sparse or plain tensor.

    Returns:
        What the module makes of it.
    """
    if not isinstance(x, SparseTensor):
        return module(x)
    if type(module) is nn.Sequential:
        for inner in module:
            x = call(inner, x)
        return x
    if type(module).__module__.startswith("torch.nn."):
        return x.replace(features=module(x.features))
    return module(x)


class Sequential(nn.Sequential):
    """`torch.nn.Sequential` for sparse tensors, in which torch's own modules act on the features.

    Args:
        *modules: layers in order, or one ordered dict of them.

    Example:
        >>> from torch import nn
        >>> from sparseconv.nn.conv.submanifold import SubMConv3d
        >>> net = Sequential(SubMConv3d(4, 8, 3), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2))
    """

    def forward(self, x: SparseTensor | Tensor) -> SparseTensor | Tensor:
        """Apply the modules one after another."""
        for module in self:
            x = call(module, x)
        return x
