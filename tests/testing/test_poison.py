"""The poison of conftest.py reaches the library's allocations and nobody else's."""

import types

import torch

SOURCE = """
import torch
def rows(like): return torch.empty(3), like.new_empty(2, dtype=torch.int32), torch.empty_like(like)
"""


def allocate(name):
    module = types.ModuleType(name)
    exec(SOURCE, module.__dict__)
    return module.rows(torch.zeros(4))


def test_library_memory_is_poisoned():
    floats, ints, alike = allocate("sparseconv.backends.fantasy")
    assert floats.isnan().all() and alike.isnan().all()
    assert (ints < -(2**30)).all()


def test_other_memory_is_left_alone(monkeypatch):
    seen = []
    fill = torch.Tensor.fill_
    monkeypatch.setattr(torch.Tensor, "fill_", lambda self, v: seen.append(v) or fill(self, v))
    allocate("another.package")
    assert seen == []
    allocate("sparseconv.fantasy")
    assert len(seen) == 3
