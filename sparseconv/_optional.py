"""Import a heavy package at the point of use, or say how to install it."""

import importlib
from types import ModuleType


def require(package: str, *, extra: str | None = None) -> ModuleType:
    """Import `package` now and return it.

    Args:
        package: dotted module name, such as `"open3d"`.
        extra: the extra of this library that installs it.

    Returns:
        The imported module.

    Raises:
        ImportError: the package is missing; the message holds the pip line that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        wanted = f"'sparseconv[{extra}]'" if extra else package.split(".")[0]
        raise ImportError(
            f"{package}: expected an installed package, found none ({error}); "
            f"run: pip install {wanted}"
        ) from error
