"""What runs the primitives: the reference everywhere, the compiled module where it is there."""

import importlib
from functools import cache


@cache
def native_missing() -> str | None:
    """Return why the compiled module cannot be used, None where it can."""
    try:
        importlib.import_module("sparseconv._native")
    except ModuleNotFoundError:
        return (
            "sparseconv._native was not built: no working C++ compiler was found when the package "
            "was installed; install one and reinstall"
        )
    except ImportError as error:
        return f"sparseconv._native does not load: {error}"
    return None


def native_available() -> bool:
    """Return whether the compiled module is installed and loads."""
    return native_missing() is None
