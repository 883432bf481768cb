"""Calls of an op that go to its kernel at once, where nothing else would look at them."""

import importlib
from collections.abc import Callable

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.autograd import forward_ad
from torch.nn import Parameter

from sparseconv.backends import native_available

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


# what `_plain` returns
_NOT, _PLAIN, _WANTED = range(3)


def direct(
    op: OpOverload,
    on_cpu: Callable,
    recorded: Callable,
    check: Callable | None = None,
    *,
    can_tell: bool = _CAN_TELL,
) -> Callable:
    """Return what does the same as an op, sooner.

    Plain CPU tensors go to the kernel. Other tensors, and calls that a compiler, a tracer, a mode,
    a transform or a profiler looks at, go through torch's dispatcher.

    Args:
        op: the op's default overload.
        on_cpu: what is registered for CPU tensors.
        recorded: what does so for those of which one wants a gradient.
        check: refuses arguments that do not fit, before the op is called. `on_cpu` does so itself,
            and is not asked twice.
        can_tell: whether this torch says who looks; where it does not, all go to the op.
    """

    def through_torch(*args):
        if check is not None:
            check(*args)
        return op(*args)

    if not can_tell:
        return op if check is None else through_torch

    def call(*args):
        if torch.compiler.is_compiling():
            return through_torch(*args)
        kind = _plain(args)
        if kind == _NOT or _seen():
            return through_torch(*args)
        run = recorded if kind == _WANTED and torch.is_grad_enabled() else on_cpu
        try:
            return run(*args)
        except (TypeError, ValueError) as error:
            refused = error
        if check is not None:
            # the kernel has refused them; this says it in the words of the caller
            check(*args)
        raise refused

    return call


def _plain_in_python(args: tuple) -> int:
    """Return whether all arguments are plain CPU tensors, numbers and None, or want a gradient."""
    wanted = False
    for given in args:
        kind = type(given)
        if kind in _TENSORS:
            if not given.is_cpu or given.is_neg():
                return _NOT
            wanted = wanted or given.requires_grad
        elif kind not in _NUMBERS and not _numbers(given):
            return _NOT
    return _WANTED if wanted else _PLAIN


def _numbers(given: object) -> bool:
    return isinstance(given, list) and all(type(number) is int for number in given[:1])


def _teller() -> Callable[[tuple], int]:
    """Return `_plain_in_python`, or what the compiled module has for it."""
    if not native_available():
        return _plain_in_python
    compiled = importlib.import_module("sparseconv._native").plain

    def plain(args: tuple) -> int:
        kind = compiled(args)
        return kind if kind >= 0 else _plain_in_python(args)

    return plain


_plain = _teller()


def _seen() -> bool:
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch._C._is_tracing()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or torch.autograd._profiler_enabled()
    )
