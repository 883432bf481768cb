"""Weights of nets for inference, which kernels keep as they read them from call to call."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from torch import Tensor, nn

from sparseconv.backends import native_available


@dataclass
class _Kept:
    """What is kept of a weight: its memory, so that no other takes its place, and its version."""

    memory: Tensor
    version: int
    packed: object


_KEPT: dict[int, _Kept] = {}


def keep_weight(weight: nn.Parameter) -> bool:
    """Let the compiled kernels keep what they make of a weight, until it dies.

    A change by an op of torch is seen, and what was kept is made again. One that torch does not see
    (through `.data`, `.numpy()` or another program) is not. Kept where they are smaller so: float32
    weights that autocast rounds to bfloat16, on a CPU with instructions for it. Memory: half the
    bytes of the weight, once its layer has run.

    Args:
        weight: of a convolution or linear layer, as its `weight` attribute holds it.

    Returns:
        Whether it will be kept: not off the CPU, nor where torch does not count its changes.
    """
    if not native_available() or not weight.is_cpu or weight.is_inference() or not weight.numel():
        return False
    place = weight.data_ptr()
    if place not in _KEPT:
        _KEPT[place] = _Kept(weight.detach(), weight._version, _new())
        weakref.finalize(weight, _KEPT.pop, place, None).atexit = False
    return True


def kept(weight: Tensor) -> object | None:
    """Return what the kernel keeps of a weight, given any view of all of it; None for nothing."""
    if not _KEPT:
        return None
    found = _KEPT.get(weight.data_ptr())
    if found is None or weight.is_inference():
        return None
    version = weight._version
    if found.version != version:
        found.version, found.packed = version, _new()
    return found.packed


def _new() -> object:
    from sparseconv import _native

    return _native.KeptWeights()
