"""Freed blocks stay with the process: page faults of the second round say so."""

import subprocess
import sys

import pytest

from sparseconv.backends.memory import keep_freed_memory

native = pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")
pytest.importorskip("resource")

# counts the faults of writing some blocks, the first time and again after all were freed
ROUNDS = """
import ctypes, importlib.util, resource, sys

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
path, keep, count, size = sys.argv[1], sys.argv[2] == "keep", *map(int, sys.argv[3:])
if path:
    spec = importlib.util.spec_from_file_location("_native", path)
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    if keep:
        native.keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [libc.malloc(size << 20) for _ in range(count)]
    for block in blocks:
        libc.memset(block, 1, size << 20)
    for block in blocks:
        libc.free(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
GLIBC = "gnu" in native.__file__ and sys.platform == "linux"


def faults(path, keep, count, size):
    command = [sys.executable, "-c", ROUNDS, path, keep, str(count), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={})
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(not GLIBC, reason="other C libraries have other rules")
@pytest.mark.parametrize(
    ("keep", "count", "size"), [("usual", 10, 4), ("keep", 2, 48)], ids=["usual", "keep"]
)
def test_blocks_are_used_again(keep, count, size):
    assert faults("", keep, count, size)[-1] > 1000
    assert faults(native.__file__, keep, count, size)[-1] < 100


def test_the_answer_is_whether_it_can_be_done():
    assert keep_freed_memory() is GLIBC
