"""Calls of an op that go to its kernel at once, where nothing else would look at them."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.autograd import forward_ad
from torch.nn import Parameter

# Torch's dispatcher takes 2 to 3 µs a call, more where other work has pushed it out of the caches:
# a twentieth of the time of all rulebooks of a small scan. What tells who looks is not documented.
_PARTS = ("_functorch", "_is_tracing", "_len_torch_dispatch_stack", "_len_torch_function_stack")
_CAN_TELL = (
    all(hasattr(torch._C, part) for part in _PARTS)
    and hasattr(torch._C._functorch, "peek_interpreter_stack")
    and hasattr(torch.autograd, "_profiler_enabled")
    and hasattr(forward_ad, "_current_level")
)
_TENSORS = (Tensor, Parameter)
_NUMBERS = (int, float, bool, type(None))


def direct(
    op: OpOverload, on_cpu: Callable, recorded: Callable, *, can_tell: bool = _CAN_TELL
) -> Callable:
    """Return what does the same as an op, sooner.

    Plain CPU tensors go to the kernel. Other tensors, and calls that a compiler, a tracer, a mode,
    a transform or a profiler looks at, go through torch's dispatcher.

    Args:
        op: the op's default overload.
        on_cpu: what is registered for CPU tensors.
        recorded: what does so for those of which one wants a gradient.
        can_tell: whether this torch says who looks; where it does not, the op itself is returned.
    """
    if not can_tell:
        return op

    def call(*args):
        if torch.compiler.is_compiling():
            return op(*args)
        wanted = False
        for given in args:
            kind = type(given)
            if kind in _TENSORS:
                wanted = wanted or given.requires_grad
                plain = given.is_cpu and not given.is_neg()
            else:
                plain = kind in _NUMBERS or _numbers(given)
            if not plain:
                return op(*args)
        if _seen():
            return op(*args)
        return recorded(*args) if wanted and torch.is_grad_enabled() else on_cpu(*args)

    return call


def _numbers(given: object) -> bool:
    return isinstance(given, list) and all(type(number) is int for number in given[:1])


def _seen() -> bool:
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch._C._is_tracing()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or torch.autograd._profiler_enabled()
    )
