"""What was built, counted from outside."""

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

WHERE = ("site_index", "lookup", "unique_coords", "output_coords", "rulebook")


class Built(TorchDispatchMode):
    """Names of the "where" ops that ran while this was in force."""

    def __init__(self):
        super().__init__()
        self.ops = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "sparseconv" and func._opname in WHERE:
            self.ops.append(func._opname)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def built():
    return Built
