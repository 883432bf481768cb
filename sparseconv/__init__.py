"""Sparse 3D convolutions for point clouds."""

# isort: off
import torch as _torch  # noqa: F401  first, so that one OpenMP runtime serves both

# isort: on
from sparseconv import functional, io, models, nn
from sparseconv.ops._registry import use_backend
from sparseconv.tensor.batch import batch, unbatch
from sparseconv.tensor.dense import from_dense
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.union import Comparison, cat, compare
from sparseconv.transforms.voxelize import voxelize

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "Rulebook",
    "SparseTensor",
    "batch",
    "cat",
    "compare",
    "from_dense",
    "functional",
    "io",
    "models",
    "nn",
    "unbatch",
    "use_backend",
    "voxelize",
]
