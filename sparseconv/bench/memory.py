"""Peak memory of a training step, beside what such a step cannot do without."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.topology import ROOT, Topology

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Memory:
    """Bytes of one training step.

    Attributes:
        peak: most the process held during the step, less what it held for other reasons.
        features: of the input.
        activations: what autograd saved for the backward pass, each storage once, without weights,
            features, labels and row numbers.
        rows: row numbers of rulebooks among what autograd saved.
        weights: parameters and buffers.
        gradients: of the parameters.
        state: of the optimiser.
    """

    peak: int
    features: int
    activations: int
    rows: int
    weights: int
    gradients: int
    state: int

    @property
    def needed(self) -> int:
        """Features, saved activations, weights, gradients and optimiser state."""
        return self.features + self.activations + self.weights + self.gradients + self.state

    @property
    def ratio(self) -> float:
        """Peak over what is needed; row numbers count as excess."""
        return self.peak / max(self.needed, 1)


class _Saved:
    """Counts what autograd saves, each storage once."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        self.seen = {_storage(tensor) for tensor in known}
        self.floating = self.rows = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        if _storage(tensor) not in self.seen:
            self.seen.add(_storage(tensor))
            size = tensor.untyped_storage().nbytes()
            if tensor.is_floating_point():
                self.floating += size
            else:
                self.rows += size
        return tensor


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Return the size of the storages of some tensors, each once."""
    return sum({_storage(t): t.untyped_storage().nbytes() for t in tensors}.values())


def _status(name: str) -> int:
    """Return a number of bytes that the system keeps of this process."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(complain(str(STATUS), f"a line {name}", "none"))


def _return_freed() -> None:
    """Give memory that was freed back to the system, so that it counts as new when used again."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def can_measure() -> bool:
    """Return whether this system tells a process its peak and lets it begin anew: Linux does."""
    try:
        CLEAR.write_text("5")
        return _status("VmHWM") > 0
    except (OSError, RuntimeError):
        return False


def grown_memory(run: Callable[[], object]) -> int:
    """Return by how many bytes the resident memory of this process grew at most during a call.

    Raises:
        RuntimeError: the system has no such counter.
    """
    if not can_measure():
        raise RuntimeError(
            complain("grown_memory", f"{CLEAR} to write to and VmHWM in {STATUS}", "none")
        )
    _return_freed()
    before = _status("VmRSS")
    CLEAR.write_text("5")
    run()
    return _status("VmHWM") - before


def peak_memory(
    net: nn.Module,
    x: SparseTensor,  # [N, C]
    labels: Tensor,  # [N] int64
    optimiser: torch.optim.Optimizer | None = None,
) -> Memory:
    """Measure the memory of one training step: forward, cross entropy, backward, optimiser.

    A first step counts what autograd saves and makes the optimiser's state. Then gradients are
    dropped, freed memory is given back to the system, and a second step, its indices and
    rulebooks built anew, is watched by the system's own counter of resident memory.

    Args:
        net: maps sparse tensors to logits [N, D]; both steps change its parameters, if the
            optimiser does, and its running statistics.
        x: the input.
        labels: a class per row.
        optimiser: of the net's parameters; None for SGD with momentum and step length 0.

    Returns:
        The bytes. `peak` is the growth of resident memory during the second step, and what was
        there before: features, weights, optimiser state.

    Raises:
        RuntimeError: the system has no such counter.
    """
    if not can_measure():
        raise RuntimeError(
            complain(
                "peak_memory",
                f"{CLEAR} to write to and VmHWM in {STATUS}",
                "none",
                "measure on Linux, where can_measure() is True",
            )
        )
    if optimiser is None:
        optimiser = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)
    level = x.topology.levels[x.level]

    def step() -> None:
        anew = SparseTensor.at(Topology.of(level), ROOT, x.features)
        loss = nn.functional.cross_entropy(net(anew).features, labels)
        del anew
        loss.backward()
        optimiser.step()

    weights = [*net.parameters(), *net.buffers()]
    saved = _Saved([*weights, x.features, labels])
    optimiser.zero_grad(set_to_none=True)
    with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
        step()
    gradients = _bytes(p.grad for p in net.parameters() if p.grad is not None)
    state = _bytes(
        value
        for values in optimiser.state.values()
        for value in values.values()
        if isinstance(value, Tensor)
    )
    optimiser.zero_grad(set_to_none=True)
    grown = grown_memory(step)
    there = _bytes([x.features]), _bytes(weights)
    return Memory(
        peak=grown + sum(there) + state,
        features=there[0],
        activations=saved.floating,
        rows=saved.rows,
        weights=there[1],
        gradients=gradients,
        state=state,
    )
