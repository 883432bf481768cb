"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from sparseconv.backends import native_available


def processor() -> str:
    """Return the processor's model name, as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe_machine() -> dict[str, object]:
    """Return processor, instruction set, cores and versions."""
    return {
        "processor": processor(),
        "instructions": instruction_set(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_instructions": torch.backends.cpu.get_cpu_capability(),
        "backend": "cpu" if native_available() else "reference",
    }


def instruction_set() -> str:
    """Return the instruction set the compiled kernels chose, or that there are none."""
    if not native_available():
        return "none (plain torch: nothing is compiled)"
    from sparseconv import _native

    return _native.isa()
