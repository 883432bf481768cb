"""Sparse 3D convolutions for point clouds."""

# isort: off
import torch as _torch  # noqa: F401  first: its libraries settle which runtimes are loaded

# isort: on
import importlib
from types import ModuleType

from sparseconv import functional, io, models, nn
from sparseconv.backends.memory import keep_freed_memory
from sparseconv.functional.rulebook import convolve, rulebook
from sparseconv.ops._registry import use_backend
from sparseconv.tensor.batch import batch, unbatch
from sparseconv.tensor.dense import from_dense
from sparseconv.tensor.plan import Plan, plan
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.union import Comparison, cat, compare
from sparseconv.transforms.voxelize import voxelize

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "Plan",
    "Rulebook",
    "SparseTensor",
    "batch",
    "cat",
    "compare",
    "convolve",
    "from_dense",
    "functional",
    "io",
    "keep_freed_memory",
    "models",
    "nn",
    "plan",
    "rulebook",
    "unbatch",
    "use_backend",
    "voxelize",
]

_ON_DEMAND = ("datasets", "tasks", "transforms", "viz")


def __getattr__(name: str) -> ModuleType:
    """Import the rooms that most programs do not need when they are first named."""
    if name in _ON_DEMAND:
        return importlib.import_module(f"sparseconv.{name}")
    raise AttributeError(f"module 'sparseconv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_DEMAND})
