"""Tensors that the compiled module makes: by torch's own functions, by way of numpy, or arrays."""

import subprocess
import sys

import pytest
import torch

from sparseconv.ops.coords import unique_coords
from sparseconv.ops.pyramid import halve, pyramid
from sparseconv.ops.rulebook import rulebook
from sparseconv.testing.scenes import room

_native = pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

NONE = torch.zeros(0, dtype=torch.int64)
CUBE = [v for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) for v in (x, y, z)]


@pytest.fixture(params=[True, False], ids=["torch's functions", "numpy"])
def exchange(request):
    if not _native.use_exchange(request.param) and request.param:
        pytest.skip("this torch has no such functions")
    yield request.param
    _native.use_exchange(True)


def most_memory():
    """Return the bytes this process held at its fullest."""
    resource = pytest.importorskip("resource", reason="this system does not tell")
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def everything(coords):
    levels, cube = pyramid(coords, NONE, True)
    below, *book, other = halve(coords, levels, 0, True)
    merged = rulebook(coords, NONE, coords, CUBE, [1, 1, 1], True)
    return [levels, *cube, below, *book, *other, *merged, *unique_coords(coords)]


@pytest.mark.parametrize("count", [0, 1, 700])
def test_both_ways_make_the_same_plain_tensors(exchange, count):
    coords = room(700, seed=1)[:count].contiguous()
    made = everything(coords)
    _native.use_exchange(True)
    for one, other in zip(made, everything(coords), strict=True):
        assert type(one) is torch.Tensor and one.is_contiguous() and one.device.type == "cpu"
        assert not one.requires_grad and not one.is_inference()
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_they_can_be_written_to_and_outlive_each_other(exchange):
    unique, inverse, *rest = unique_coords(room(700, seed=1))
    copy = inverse.clone()
    del rest
    unique.fill_(7)
    for _ in range(4):
        unique_coords(room(700, seed=2))
    assert (unique == 7).all() and torch.equal(inverse, copy)
    assert torch.equal(inverse.share_memory_(), copy)


def test_their_memory_is_given_back(exchange):
    coords = room(200_000, seed=3)
    for _ in range(3):
        unique_coords(coords)
    before = most_memory()
    for _ in range(40):
        # 8 MB a call
        unique_coords(coords)
    assert most_memory() - before < 100e6


def test_until_torch_is_loaded_they_are_arrays():
    code = f"""
import importlib.util, sys
import numpy as np
spec = importlib.util.spec_from_file_location("_native", {_native.__file__!r})
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
sites = np.array([[0, 1, 2, 3], [0, 1, 2, 3]], np.int32)
made = native.unique_coords(sites.ctypes.data, 2, 1)
assert all(type(part) is np.ndarray for part in made)
assert made[0].tolist() == [[0, 1, 2, 3]] and made[2].tolist() == [2]
assert "torch" not in sys.modules
import torch
assert all(type(part) is torch.Tensor for part in native.unique_coords(sites.ctypes.data, 2, 1))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
