"""Fold batch norms into the layers before them, for inference."""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import Tensor, nn

from sparseconv.backends.kept_weights import keep_weight
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.features import Linear


def fuse(model: nn.Module) -> nn.Module:
    """Return a copy for inference, in which batch norms are part of the layers before them.

    In every `Sequential` a convolution or linear layer with a batch norm behind it becomes one
    layer: `W' = W s`, `b' = (b - mean) s + beta` with `s = gamma / sqrt(var + eps)`. A ReLU behind
    that convolution, or the sum and ReLU at the end of a residual block, is then part of the same
    pass, as for any convolution where no gradient is wanted. Results are equal within rounding.
    What cannot be folded stays: a norm without running statistics, a layer used in two places, one
    with hooks or parametrised weights.

    Under autocast to bfloat16 the CPU kernels keep the copy's weights as they read them, rounded:
    half as much memory again. Changes that torch sees are followed; after others (through `.data`
    or `.numpy()`) fuse the model again.

    Args:
        model: any module; it is not changed.

    Returns:
        The copy, in evaluation mode, its folded parameters without gradients.

    Example:
        >>> from sparseconv.models.mink_unet import MinkUNetSmall
        >>> from sparseconv.nn.norm import BatchNorm
        >>> net = fuse(MinkUNetSmall(4, 8))
        >>> sum(isinstance(module, BatchNorm) for module in net.modules())
        0
    """
    fused = copy.deepcopy(model).eval()
    places = Counter(
        id(child) for parent in fused.modules() for child in parent._modules.values() if child
    )
    for chain in list(fused.modules()):
        if not isinstance(chain, nn.Sequential):
            continue
        before = None
        for name, module in list(chain.named_children()):
            if _is_norm(module) and _takes(before, places) and places[id(module)] == 1:
                _fold(before, module)
                delattr(chain, name)
            else:
                before = module
    for module in fused.modules():
        if isinstance(module, (Convolution, Linear)) and "weight" in module._parameters:
            keep_weight(module.weight)
    return fused


def _is_norm(module: nn.Module) -> bool:
    known = isinstance(module, (nn.BatchNorm1d, nn.SyncBatchNorm))
    return known and module.running_mean is not None and not module._forward_hooks


def _takes(layer: nn.Module | None, places: Counter) -> bool:
    return (
        isinstance(layer, (Convolution, nn.Linear))
        and places[id(layer)] == 1
        and not layer._forward_hooks
        and not hasattr(layer, "parametrizations")
    )


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    with torch.no_grad():
        scale = torch.rsqrt(norm.running_var.double() + norm.eps)
        shift = -norm.running_mean.double() * scale
        if norm.weight is not None:
            scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
        if layer.bias is not None:
            shift = shift + layer.bias * scale
        weight = layer.weight
        scaled = _scale_outputs(weight.double(), scale, layer).to(weight.dtype)
        layer.weight = nn.Parameter(scaled, requires_grad=False)
        layer.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=False)


def _scale_outputs(weight: Tensor, scale: Tensor, layer: nn.Module) -> Tensor:
    if not getattr(layer, "transposed", False):
        return weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
    # a transposed weight is [C, D / G, kx, ky, kz]; rows of group g make outputs of group g
    groups = layer.groups
    by_row = scale.reshape(groups, 1, -1).expand(-1, weight.shape[0] // groups, -1)
    return weight * by_row.reshape(weight.shape[0], -1, 1, 1, 1)
