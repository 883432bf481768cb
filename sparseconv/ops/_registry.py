"""Register one primitive with torch: the reference everywhere, the compiled kernel on the CPU."""

import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch

from sparseconv._errors import complain
from sparseconv.backends import native_available, native_missing
from sparseconv.ops._autograd import register
from sparseconv.ops._direct import direct

LIBRARY = torch.library.Library("sparseconv", "DEF")
BACKENDS = ("auto", "reference")

_chosen = os.environ.get("SPARSECONV_BACKEND", "auto")
if _chosen not in BACKENDS:
    raise ValueError(complain("SPARSECONV_BACKEND", f"one of {', '.join(BACKENDS)}", repr(_chosen)))


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run the enclosed calls on one backend.

    Args:
        name: `"reference"` (plain torch, slow, the specification) or `"auto"` (the compiled
            kernels where the device has them, else the reference).

    Raises:
        ValueError: no such backend.
    """
    global _chosen
    if name not in BACKENDS:
        raise ValueError(complain("name", f"one of {', '.join(BACKENDS)}", repr(name)))
    before, _chosen = _chosen, name
    try:
        yield
    finally:
        _chosen = before


def define(
    schema: str,
    *,
    reference: Callable,
    compiled: Callable | None,
    fake: Callable,
    setup: Callable | None = None,
    backward: Callable | None = None,
    check: Callable | None = None,
) -> Callable:
    """Define `sparseconv::<schema>` and return what calls it.

    Args:
        schema: torch schema, such as `"lookup(Tensor coords, ...) -> Tensor"`.
        reference: plain torch implementation, for every device without a kernel of its own.
        compiled: the kernel for CPU tensors; None where the compiled module is missing, which is
            said in a warning at the first call.
        fake: shapes and dtypes of the results.
        setup: saves what `backward` needs.
        backward: gradients, made of registered ops so that they can be differentiated again.
        check: refuses arguments that do not fit. It runs where no kernel does that: before the
            reference and before calls that torch passes on.

    Returns:
        What calls the op's default overload the shortest way.
    """
    name = schema[: schema.index("(")]
    reference = _without_autocast(reference)
    qualified = f"sparseconv::{name}"
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
    slow = reference if check is None else _checked(reference, check)
    fast = _warned(slow) if compiled is None else compiled

    def on_cpu(*args):
        return (slow if _chosen == "reference" else fast)(*args)

    LIBRARY.impl(name, on_cpu, "CPU")
    torch.library.register_fake(qualified, fake, lib=LIBRARY)
    op = getattr(torch.ops.sparseconv, name).default
    recorded = op
    if backward is not None:
        recorded = register(LIBRARY, op, setup, backward, on_cpu)
    return direct(op, on_cpu, recorded, check)


def _checked(reference: Callable, check: Callable) -> Callable:
    def run(*args):
        check(*args)
        return reference(*args)

    return run


def _without_autocast(reference: Callable) -> Callable:
    """Keep autocast from changing dtypes inside an op: its face has cast the inputs already."""

    def run(*args):
        with torch.autocast(args[0].device.type, enabled=False):
            return reference(*args)

    return run


def _warned(reference: Callable) -> Callable:
    """Say once, when first used, that the slow implementation stands in for the compiled one."""

    def run(*args):
        _say_missing()
        return reference(*args)

    return run


@cache
def _say_missing() -> None:
    warnings.warn(
        f"{native_missing()}. Until then everything runs on plain torch, many times slower; "
        "SPARSECONV_BACKEND=reference chooses that without this warning.",
        RuntimeWarning,
        stacklevel=2,
    )


def compiled(module: str, name: str) -> Callable | None:
    """Return function `name` of `backends/cpu/<module>.py`, None where nothing was compiled."""
    if not native_available():
        return None
    return getattr(importlib.import_module(f"sparseconv.backends.cpu.{module}"), name)
