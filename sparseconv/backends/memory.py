"""What becomes of freed memory."""

import importlib

from sparseconv.backends import native_available


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, for the next step to use again.

    The C library hands large tensors back to the system when they are freed, and the next ones get
    fresh pages, whose first touch can take longer than the numbers stored there. Worth calling once
    before training or serving on a CPU; `sparseconv train` and `segment` do. The process then keeps
    up to 2 GiB more than it needs, to its end; tensors of 1 GiB and more are still handed back.

    Returns:
        Whether the C library can be told so: glibc can, that of other systems cannot.

    Example:
        >>> kept = keep_freed_memory()
    """
    return native_available() and importlib.import_module("sparseconv._native").keep_freed_memory()
