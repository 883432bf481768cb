"""Layers that keep their channels, made to stand where a convolution changes them."""

from __future__ import annotations

from torch import nn

from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.sequential import Sequential


def with_channels(layer: nn.Module, channels: int, out_channels: int) -> nn.Module:
    """Return the layer, followed by a pointwise one where the channels are to differ."""
    if channels == out_channels:
        return layer
    return Sequential(layer, PointwiseConv3d(channels, out_channels))
