"""Convolution layers, one family a file."""

from sparseconv.nn.conv.coord import CoordConv3d
from sparseconv.nn.conv.dense import DenseConv3d
from sparseconv.nn.conv.depthwise import DepthwiseConv3d
from sparseconv.nn.conv.depthwise_dilated_separable import DepthwiseDilatedSeparableConv3d
from sparseconv.nn.conv.depthwise_separable import DepthwiseSeparableConv3d
from sparseconv.nn.conv.flattened import FlattenedConv3d
from sparseconv.nn.conv.generative import SparseGenerativeConv3d
from sparseconv.nn.conv.group_pointwise import GroupPointwiseConv3d
from sparseconv.nn.conv.inception import InceptionConv3d
from sparseconv.nn.conv.inverse import SparseInverseConv3d
from sparseconv.nn.conv.masked import MaskedConv3d
from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.conv.regular import SparseConv3d
from sparseconv.nn.conv.shuffled_group import ShuffledGroupConv3d
from sparseconv.nn.conv.spatially_separable import SpatiallySeparableConv3d
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.conv.transposed import SparseConvTranspose3d

__all__ = [
    "CoordConv3d",
    "DenseConv3d",
    "DepthwiseConv3d",
    "DepthwiseDilatedSeparableConv3d",
    "DepthwiseSeparableConv3d",
    "FlattenedConv3d",
    "GroupPointwiseConv3d",
    "InceptionConv3d",
    "MaskedConv3d",
    "PointwiseConv3d",
    "ShuffledGroupConv3d",
    "SparseConv3d",
    "SparseConvTranspose3d",
    "SparseGenerativeConv3d",
    "SparseInverseConv3d",
    "SpatiallySeparableConv3d",
    "SubMConv3d",
]
