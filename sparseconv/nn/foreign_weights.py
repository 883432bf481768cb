"""Weights of other libraries' layers, and how one of them draws its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.conv.submanifold import SubMConv3d

LAYOUTS = ("scn", "spconv")


def load_foreign(
    layer: Convolution,
    weight: Tensor,
    bias: Tensor | None = None,  # [D]
    *,
    layout: str,
) -> None:
    """Copy the weight of another library's layer of the same geometry into one of ours.

    `"scn"` is SparseConvNet's: `[K, G, C / G, D / G]`, `[K, C, D]` or `[K * C, D]`, taps numbered
    as here. `"spconv"` is spconv 2's: `[D, kx, ky, kz, C]`, its axes in the order in which its
    sites name them. Transposed and inverse layers have the same forms there.

    Args:
        layer: a convolution, which is changed.
        weight: floating, of any dtype; as many numbers as the layer's weight.
        bias: [D], where the layer has one.
        layout: `"scn"` or `"spconv"`.

    Raises:
        TypeError: the layer is no plain convolution.
        ValueError: shapes do not fit, or SparseConvNet's kernel is even and keeps its sites: it
            lies a voxel farther to the near side.

    Example:
        >>> layer = SubMConv3d(4, 8, 3, bias=False)
        >>> load_foreign(layer, torch.ones(27, 1, 4, 8), layout="scn")

    Source:
        SparseConvNet, https://github.com/facebookresearch/SparseConvNet; spconv 2.3,
        https://github.com/traveller59/spconv.
    """
    if not isinstance(layer, Convolution):
        found = type(layer).__name__
        raise TypeError(complain("layer", "a convolution of this library", found))
    if layout not in LAYOUTS:
        raise ValueError(complain("layout", "'scn' or 'spconv'", repr(layout)))
    size, groups, into = layer.kernel_size, layer.groups, layer.weight
    taps = math.prod(size)
    channels, width = _sides(layer)
    if (bias is None) != (layer.bias is None):
        expected = "none" if layer.bias is None else f"shape [{width}]"
        raise ValueError(complain("bias", expected, "none" if bias is None else "one"))
    if layout == "spconv":
        if groups != 1 or weight.shape != (width, *size, channels):
            expected = f"{[width, *size, channels]} without groups"
            raise ValueError(complain("weight", expected, f"{list(weight.shape)}"))
        made = weight.permute((4, 0, 1, 2, 3) if layer.transposed else (0, 4, 1, 2, 3))
    else:
        same = isinstance(layer, SubMConv3d) or getattr(layer, "keeps_sites", False)
        if same and not all(k % 2 for k in size):
            expected, found = "odd sizes, whose middle is where it is here", f"{size}"
            raise ValueError(complain("kernel_size", expected, found))
        whole = [taps, groups, channels // groups, width // groups]
        older = [[taps, channels, width], [taps * channels, width]] if groups == 1 else []
        if list(weight.shape) not in (whole, *older):
            raise ValueError(complain("weight", f"{whole}", f"{list(weight.shape)}"))
        # groups and channels of one side, channels of a group of the other, taps
        order = (1, 2, 3, 0) if layer.transposed else (1, 3, 2, 0)
        made = weight.reshape(whole).permute(order).reshape(into.shape)
    with torch.no_grad():
        into.copy_(made)
        if bias is not None:
            layer.bias.copy_(bias)


def _sides(layer: Convolution) -> tuple[int, int]:
    """Return the channels a weight reads and makes."""
    outer, inner = layer.weight.shape[0], layer.weight.shape[1] * layer.groups
    return (outer, inner) if layer.transposed else (inner, outer)


def scn_init(net: nn.Module) -> nn.Module:
    """Draw all convolutions of a net as SparseConvNet does, instead of as torch does.

    Weights are normal with deviation `sqrt(2 G / (C K))`, biases 0.

    Args:
        net: its `Convolution` layers are changed.

    Returns:
        The same net.

    Source:
        Graham, Engelcke, van der Maaten, arXiv:1711.10275, the authors' implementation.
    """
    for layer in net.modules():
        if isinstance(layer, Convolution):
            channels, _ = _sides(layer)
            share = layer.groups / (channels * math.prod(layer.kernel_size))
            drawn = torch.empty(layer.weight.shape, dtype=layer.weight.dtype)
            nn.init.normal_(drawn, std=math.sqrt(2 * share))
            with torch.no_grad():
                layer.weight.copy_(drawn)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net
