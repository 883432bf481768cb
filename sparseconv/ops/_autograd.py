"""Gradients of an op, as `register_autograd` of torch sets them up, with less to do in a call."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._ops import OpOverload

# In each call torch goes through the schema, for defaults that no schema of ours has: a sixth of
# the time a training step spends outside of kernels. What the short way needs is not documented.
_PARTS = (
    "_AutoDispatchBelowAutograd",
    "_after_autograd_keyset",
    "_after_ADInplaceOrView_keyset",
    "_any_requires_grad",
)
_DIRECT = all(hasattr(torch._C, part) for part in _PARTS) and hasattr(OpOverload, "redispatch")


def register(
    library: torch.library.Library,
    op: OpOverload,
    setup: Callable | None,
    backward: Callable,
    on_cpu: Callable,
    *,
    direct: bool = _DIRECT,
) -> Callable:
    """Register the gradients of an op whose schema has no defaults and no keyword-only arguments.

    Args:
        library: where the op is defined.
        op: its default overload.
        setup: `setup(ctx, inputs, output)`, saves what `backward` needs.
        backward: `backward(ctx, *grads)`, a gradient or None for each argument of the op.
        on_cpu: what is registered for CPU tensors.
        direct: whether to take the short way; False where this torch lacks what it needs.

    Returns:
        What does as the op does for plain CPU tensors, one of which wants a gradient.
    """
    if not direct:
        torch.library.register_autograd(op, backward, setup_context=setup, lib=library)
        return op
    through_torch, recorded = _direct(op, setup, backward, on_cpu)
    library.impl(op._opname, through_torch, "Autograd", with_keyset=True)
    return recorded


def _direct(
    op: OpOverload, setup: Callable | None, backward: Callable, on_cpu: Callable
) -> tuple[Callable, Callable]:
    def below(keyset: torch._C.DispatchKeySet, args: tuple) -> Tensor | tuple[Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            rest = keyset & torch._C._after_ADInplaceOrView_keyset
            # plain CPU tensors that no mode looks at: torch would call just this
            if rest.highestPriorityTypeId() == torch._C.DispatchKey.CPU:
                return on_cpu(*args)
            return op.redispatch(keyset & torch._C._after_autograd_keyset, *args)

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *args):
            *inputs, keyset = args
            output = on_cpu(*inputs) if keyset is None else below(keyset, inputs)
            if setup is not None:
                setup(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx, *grads):
            given = backward(ctx, *grads)
            return (*given, None) if isinstance(given, tuple) else (given, None)

    # what a graph shows of it
    Differentiable.__name__ = Differentiable.__qualname__ = f"Differentiable_{op._opname}"

    def run(keyset, *args):
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*args):
            return Differentiable.apply(*args, keyset)
        return below(keyset, args)

    return run, lambda *args: Differentiable.apply(*args, None)
