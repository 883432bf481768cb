"""The catalogue of convolution families: one entry a layer file, found by being there."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from sparseconv._errors import complain
from sparseconv.nn import conv
from sparseconv.nn.family import Family


@cache
def families() -> tuple[Family, ...]:
    """Return every convolution family in the order of the catalogue."""
    found = []
    for module in pkgutil.iter_modules(conv.__path__):
        if not module.name.startswith("_"):
            found += getattr(
                importlib.import_module(f"{conv.__name__}.{module.name}"), "FAMILIES", ()
            )
    return tuple(sorted(found, key=lambda family: family.number))


def family(key: str) -> Family:
    """Return one family by its short name.

    Raises:
        ValueError: no such family.
    """
    for entry in families():
        if entry.key == key:
            return entry
    raise ValueError(complain("key", f"one of {', '.join(f.key for f in families())}", repr(key)))
