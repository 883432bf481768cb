"""Whether somebody listens to a module: it is then called by itself."""

from __future__ import annotations

from torch import nn


def hooked(module: nn.Module) -> bool:
    """Return whether a module has hooks, which see what goes in and comes out of it alone."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
