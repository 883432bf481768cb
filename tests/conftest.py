"""Fixtures shared by all tests: backends, instruction sets, threads, scenes, poison, seeds."""

import os
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode

import sparseconv as sc
from sparseconv.backends import native_available
from sparseconv.testing import samples, scenes

hypothesis.settings.register_profile(
    "house",
    deadline=None,
    max_examples=20,
    derandomize=True,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.function_scoped_fixture,
    ],
)
hypothesis.settings.load_profile("house")

# torch remembers which functions make tensors when first asked: before they are replaced
_device_constructors()

SENTINEL = -(2**30) - 7


def _poisoned(allocate):
    """Fill what the library allocates without a value, so that unwritten rows show."""

    def allocation(*args, **kwargs):
        if torch.compiler.is_compiling():
            return allocate(*args, **kwargs)
        made = allocate(*args, **kwargs)
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if not caller.startswith("sparseconv.") or isinstance(made, FakeTensor) or made.is_meta:
            return made
        with torch.no_grad():
            if made.is_floating_point():
                made.fill_(torch.nan)
            elif made.dtype in (torch.int32, torch.int64):
                made.fill_(SENTINEL)
        return made

    return allocation


@pytest.fixture(autouse=True)
def poison(monkeypatch):
    """Make memory without a value visible, as NaN or a number that is no row."""
    monkeypatch.setattr(torch, "empty", _poisoned(torch.empty))
    monkeypatch.setattr(torch, "empty_like", _poisoned(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", _poisoned(torch.Tensor.new_empty))


@pytest.fixture(autouse=True)
def seeds():
    """Begin every test with the same random numbers and one thread."""
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["reference", "cpu"])
def backend(request):
    """Run the test on each backend."""
    if request.param == "cpu" and not native_available():
        pytest.skip("the compiled module is not installed")
    with sc.use_backend("reference" if request.param == "reference" else "auto"):
        yield request.param


@pytest.fixture(params=["baseline", "avx2", "avx512", "avx512bf16", "amx", "amx_emulated"])
def isa(request):
    """Run the test with each instruction set this machine has, and with emulated tiles."""
    if not native_available():
        pytest.skip("the compiled module is not installed")
    from sparseconv import _native

    before = _native.isa()
    try:
        _native.set_isa(request.param)
    except ValueError:
        pytest.skip(f"this build or machine has no {request.param}")
    yield request.param
    _native.set_isa(before)


@pytest.fixture(params=scenes.UNIQUE)
def scene(request):
    """Every named scene whose sites occur once."""
    return scenes.scene(request.param)


@pytest.fixture(params=scenes.BOUNDED)
def bounded_scene(request):
    """Every named scene with a spatial shape."""
    return scenes.scene(request.param)


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """Every device this machine has."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    return torch.device(request.param)


@pytest.fixture(params=[1, 2])
def threads(request):
    """One thread, then two."""
    torch.set_num_threads(request.param)
    return request.param


class Built(TorchDispatchMode):
    """Names of the "where" ops that ran while this was in force; joining builds nothing."""

    def __init__(self):
        super().__init__()
        self.ops = []
        self.where = {sample.op for sample in samples.placement()} - {"join_rows"}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "sparseconv" and func._opname in self.where:
            self.ops.append(func._opname)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def built():
    """A context that counts what is built: indices, levels, rulebooks."""
    return Built


@pytest.fixture(scope="session")
def realdata():
    """Folder of real scans, which the repository does not hold."""
    folder = os.environ.get("SPARSECONV_REALDATA")
    if not folder:
        pytest.skip("SPARSECONV_REALDATA is not set: no real scans here")
    if not Path(folder).is_dir():
        pytest.skip(f"SPARSECONV_REALDATA={folder} is not a folder")
    return Path(folder)
