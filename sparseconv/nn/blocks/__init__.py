"""Blocks of well-known networks, made of the convolution layers."""

from sparseconv.nn.blocks.dice import DiCEUnit
from sparseconv.nn.blocks.eesp import EESPBlock
from sparseconv.nn.blocks.mobile import MobileNetBlock
from sparseconv.nn.blocks.selective_kernel import SKUnit
from sparseconv.nn.blocks.shuffle import ShuffleNetUnit
from sparseconv.nn.blocks.xception import XceptionBlock

__all__ = [
    "DiCEUnit",
    "EESPBlock",
    "MobileNetBlock",
    "SKUnit",
    "ShuffleNetUnit",
    "XceptionBlock",
]
