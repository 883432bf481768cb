"""A chain of sparse layers and ordinary torch modules."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.features import Linear, ReLU
from sparseconv.nn.hooks import hooked
from sparseconv.nn.norm import BatchNorm
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
        return chain(module, x)
    if type(module).__module__.startswith("torch.nn."):
        return x.replace(features=module(x.features))
    return module(x)


def chain(modules: Iterable[nn.Module], x: SparseTensor | Tensor) -> SparseTensor | Tensor:
    """Call modules one after another; some do the work of the one behind them.

    A convolution or a linear map takes the batch norm and the ReLU, a norm the ReLU, a
    dimension-wise convolution the layer that joins its branches.

    Args:
        modules: in order.
        x: sparse or plain tensor.

    Returns:
        What the last one makes of it.
    """
    before = norm = joining = None
    for module in modules:
        if joining is not None:
            joined = joining.joins(module) and not hooked(module)
            x = joining(x, join=module) if joined else call(joining, x)
            joining = None
            if joined:
                continue
        if before is not None:
            if norm is None and _takes_norm(before, x) and _is(module, BatchNorm):
                norm = module
                continue
            clips = _is(module, ReLU, nn.ReLU)
            x = _finish(before, x, norm, relu=clips)
            before = norm = None
            if clips:
                continue
        if _finishes(module, x):
            before = module
        elif hasattr(type(module), "joins") and not hooked(module):
            joining = module
        else:
            x = call(module, x)
    if joining is not None:
        return joining(x)
    return x if before is None else _finish(before, x, norm)


def residual(
    branch: nn.Sequential, x: SparseTensor, other: SparseTensor, activation: nn.Module
) -> SparseTensor:
    """Return `activation(branch(x) + other)`, in one pass where that is norm, sum and ReLU.

    The last module may as well be a convolution, as `fuse` leaves it.

    Args:
        branch: modules in order.
        x: their input.
        other: a tensor at the sites of the branch's result.
        activation: a module.
    """
    *first, last = branch
    if _finishes(last, x) and _is(activation, ReLU, nn.ReLU) and not hooked(branch):
        if first and _is(last, BatchNorm) and _finishes(first[-1], x):
            *first, conv = first
            x = chain(first, x)
            if _takes_norm(conv, x):
                return conv(x, norm=last, add=other, relu=True)
            return last(conv(x), add=other, relu=True)
        return last(chain(first, x), add=other, relu=True)
    y = branch(x)
    return call(activation, y.replace(features=y.features + other.features))


def _takes_norm(module: nn.Module, x: SparseTensor | Tensor) -> bool:
    """Return whether a module that finishes normalises what it makes of `x` as well."""
    return isinstance(module, (Convolution, Linear)) and isinstance(x, SparseTensor)


def _finish(
    module: nn.Module, x: SparseTensor | Tensor, norm: BatchNorm | None, *, relu: bool = False
) -> SparseTensor | Tensor:
    """Call a module that finishes, with no more arguments than are needed."""
    more = {} if norm is None else {"norm": norm}
    return module(x, relu=True, **more) if relu else module(x, **more)


def _finishes(module: nn.Module, x: SparseTensor | Tensor) -> bool:
    """Return whether a module can add to what it makes of a tensor such as `x`, and clip it."""
    if isinstance(module, Convolution):
        return module.finishes and not hooked(module)
    if type(module) is Linear:
        return isinstance(x, SparseTensor) and not hooked(module)
    return _is(module, BatchNorm)


def _is(module: nn.Module, *kinds: type) -> bool:
    """Return whether a module is one of these, not of a subclass, with nobody listening to it."""
    return type(module) in kinds and not hooked(module)


class Sequential(nn.Sequential):
    """`torch.nn.Sequential` for sparse tensors, in which torch's own modules act on the features.

    A `BatchNorm` with a ReLU behind it is computed as one. Where no gradient is wanted so is a
    convolution or `Linear` with a ReLU, and with running statistics one with a `BatchNorm` and a
    ReLU.

    Args:
        *modules: layers in order, or one ordered dict of them.

    Example:
        >>> from torch import nn
        >>> from sparseconv.nn.conv.submanifold import SubMConv3d
        >>> net = Sequential(SubMConv3d(4, 8, 3), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2))
    """

    def forward(self, x: SparseTensor | Tensor) -> SparseTensor | Tensor:
        """Apply the modules one after another."""
        return chain(self, x)
