"""Kernels read between their cells: the plain torch functions, under the compiled module's names.

They work a tap at a time on all its pairs, in a few passes over memory.
"""

import torch
from torch import Tensor

from sparseconv.backends.reference import deform_kernel as reference


def deform_kernel(*args: Tensor | list[int]) -> Tensor:  # [M, C]
    """Return what the reference does, whatever autocast is set to."""
    with torch.autocast("cpu", enabled=False):
        return reference.deform_kernel(*args)


def deform_kernel_grad(*args: Tensor | list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the reference does, whatever autocast is set to."""
    with torch.autocast("cpu", enabled=False):
        return reference.deform_kernel_grad(*args)
