"""Layers: ordinary `torch.nn.Module`s on sparse tensors."""

from sparseconv.nn.blocks.eesp import EESPBlock
from sparseconv.nn.blocks.mobile import MobileNetBlock
from sparseconv.nn.blocks.shuffle import ShuffleNetUnit
from sparseconv.nn.blocks.xception import XceptionBlock
from sparseconv.nn.conv.active import ActiveConv3d
from sparseconv.nn.conv.attention_augmented import AAConv3d
from sparseconv.nn.conv.cond import CondConv3d
from sparseconv.nn.conv.coord import CoordConv3d
from sparseconv.nn.conv.dcnv3 import DCNv3_3d
from sparseconv.nn.conv.dcnv4 import DCNv4_3d
from sparseconv.nn.conv.deformable import DeformConv3d
from sparseconv.nn.conv.deformable_kernel import GlobalDeformKernel3d
from sparseconv.nn.conv.deformable_kernel_conv import DeformKernelConv3d
from sparseconv.nn.conv.dense import DenseConv3d
from sparseconv.nn.conv.depthwise import DepthwiseConv3d
from sparseconv.nn.conv.depthwise_dilated_separable import DepthwiseDilatedSeparableConv3d
from sparseconv.nn.conv.depthwise_separable import DepthwiseSeparableConv3d
from sparseconv.nn.conv.dim import DimConv2d, DimConv3d
from sparseconv.nn.conv.dynamic import DynamicConv3d
from sparseconv.nn.conv.flattened import FlattenedConv3d
from sparseconv.nn.conv.generative import SparseGenerativeConv3d
from sparseconv.nn.conv.group_pointwise import GroupPointwiseConv3d
from sparseconv.nn.conv.inception import InceptionConv3d
from sparseconv.nn.conv.inverse import SparseInverseConv3d
from sparseconv.nn.conv.invertible import InvConv1x1
from sparseconv.nn.conv.involution import Involution3d
from sparseconv.nn.conv.kernel_warehouse import KernelWarehouse, KWConv3d
from sparseconv.nn.conv.local_deformable_kernel import LocalDeformKernel3d
from sparseconv.nn.conv.local_relation import LocalRelation3d
from sparseconv.nn.conv.masked import MaskedConv3d
from sparseconv.nn.conv.mix import MixConv3d
from sparseconv.nn.conv.non_local import NonLocal3d
from sparseconv.nn.conv.octave import OctaveConv3d
from sparseconv.nn.conv.od import ODConv3d
from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.conv.regular import SparseConv3d
from sparseconv.nn.conv.selective_kernel import SKConv3d
from sparseconv.nn.conv.shuffled_group import ShuffledGroupConv3d
from sparseconv.nn.conv.spatially_separable import SpatiallySeparableConv3d
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.conv.transposed import SparseConvTranspose3d
from sparseconv.nn.cost import Cost, cost
from sparseconv.nn.families import families, family
from sparseconv.nn.family import Family
from sparseconv.nn.features import (
    GELU,
    Dropout,
    LayerNorm,
    LeakyReLU,
    Linear,
    OnFeatures,
    ReLU,
    Sigmoid,
    SiLU,
)
from sparseconv.nn.foreign_weights import load_foreign, scn_init
from sparseconv.nn.fuse import fuse
from sparseconv.nn.norm import BatchNorm
from sparseconv.nn.pool import (
    AvgPool3d,
    GlobalAvgPool,
    GlobalMaxPool,
    GlobalSumPool,
    MaxPool3d,
    SumPool3d,
    Unpool,
)
from sparseconv.nn.resample import Interpolate, Pruning
from sparseconv.nn.sequential import Sequential

__all__ = [
    "GELU",
    "AAConv3d",
    "ActiveConv3d",
    "AvgPool3d",
    "BatchNorm",
    "CondConv3d",
    "CoordConv3d",
    "Cost",
    "DCNv3_3d",
    "DCNv4_3d",
    "DeformConv3d",
    "DeformKernelConv3d",
    "DenseConv3d",
    "DepthwiseConv3d",
    "DepthwiseDilatedSeparableConv3d",
    "DepthwiseSeparableConv3d",
    "DimConv2d",
    "DimConv3d",
    "Dropout",
    "DynamicConv3d",
    "EESPBlock",
    "Family",
    "FlattenedConv3d",
    "GlobalAvgPool",
    "GlobalDeformKernel3d",
    "GlobalMaxPool",
    "GlobalSumPool",
    "GroupPointwiseConv3d",
    "InceptionConv3d",
    "Interpolate",
    "InvConv1x1",
    "Involution3d",
    "KWConv3d",
    "KernelWarehouse",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalDeformKernel3d",
    "LocalRelation3d",
    "MaskedConv3d",
    "MaxPool3d",
    "MixConv3d",
    "MobileNetBlock",
    "NonLocal3d",
    "ODConv3d",
    "OctaveConv3d",
    "OnFeatures",
    "PointwiseConv3d",
    "Pruning",
    "ReLU",
    "SKConv3d",
    "Sequential",
    "ShuffleNetUnit",
    "ShuffledGroupConv3d",
    "SiLU",
    "Sigmoid",
    "SparseConv3d",
    "SparseConvTranspose3d",
    "SparseGenerativeConv3d",
    "SparseInverseConv3d",
    "SpatiallySeparableConv3d",
    "SubMConv3d",
    "SumPool3d",
    "Unpool",
    "XceptionBlock",
    "cost",
    "families",
    "family",
    "fuse",
    "load_foreign",
    "scn_init",
]
