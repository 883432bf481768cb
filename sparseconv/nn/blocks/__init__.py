"""Blocks of well-known networks, made of the convolution layers."""

from sparseconv.nn.blocks.eesp import EESPBlock
from sparseconv.nn.blocks.mobile import MobileNetBlock
from sparseconv.nn.blocks.shuffle import ShuffleNetUnit
from sparseconv.nn.blocks.xception import XceptionBlock

__all__ = ["EESPBlock", "MobileNetBlock", "ShuffleNetUnit", "XceptionBlock"]
