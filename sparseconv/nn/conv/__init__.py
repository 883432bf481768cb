"""Convolution layers, one family a file."""

from sparseconv.nn.conv.generative import SparseGenerativeConv3d
from sparseconv.nn.conv.inverse import SparseInverseConv3d
from sparseconv.nn.conv.regular import SparseConv3d
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.conv.transposed import SparseConvTranspose3d

__all__ = [
    "SparseConv3d",
    "SparseConvTranspose3d",
    "SparseGenerativeConv3d",
    "SparseInverseConv3d",
    "SubMConv3d",
]
