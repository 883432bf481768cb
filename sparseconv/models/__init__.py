"""Whole nets."""

from sparseconv.models.mink_unet import MinkUNet, MinkUNetSmall

__all__ = ["MinkUNet", "MinkUNetSmall"]
