"""Damaged files give points or our own error: no other exception, no memory, no crash."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparseconv.io.errors import FileFormatError
from sparseconv.io.point_cloud import PointCloud
from sparseconv.io.registry import read, writable_suffixes, write

CASES = 60
HOSTILE = [b"999999999999", b"-1", b"\xff\xff\xff\xff", b"\0\0", b"nan", b" ", b"1e999"]


def small(suffix):
    rng = np.random.default_rng(0)
    attributes = {"intensity": rng.random(40, dtype=np.float32)}
    if suffix != ".bin":
        attributes |= {
            "rgb": rng.integers(0, 256, (40, 3), dtype=np.uint8),
            "label": rng.integers(0, 9, 40, dtype=np.int32),
            "shape": rng.random((40, 2)),
        }
    return PointCloud(rng.normal(size=(40, 3)).astype(np.float32), attributes)


def damaged(data, chance):
    """Cut, flip bytes anywhere or in the header, or put something hostile in."""
    data = bytearray(data)
    kind = chance.randrange(4)
    if kind == 0:
        return bytes(data[: chance.randrange(1, len(data))])
    if kind == 3:
        at = chance.randrange(len(data))
        data[at : at + chance.randint(1, 9)] = chance.choice(HOSTILE)
        return bytes(data)
    end = len(data) if kind == 1 else min(len(data), 400)
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(end)] = chance.randrange(256)
    return bytes(data)


def run(suffix, folder, cases):
    path = Path(folder) / f"a{suffix}"
    write(path, small(suffix))
    good = path.read_bytes()
    chance = random.Random(suffix)
    outcomes = {"points": 0, "refused": 0}
    for _ in range(cases):
        path.write_bytes(damaged(good, chance))
        try:
            assert isinstance(read(path), PointCloud)
            outcomes["points"] += 1
        except FileFormatError as error:
            assert f"a{suffix}" in str(error) and "expected" in str(error)
            outcomes["refused"] += 1
    return outcomes


def most_resident():
    """Return the most memory this process held, KiB; None where the system does not say.

    `ru_maxrss` will not do: a process begins with that of the one that started it.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)


@pytest.mark.parametrize("suffix", [s for s in writable_suffixes() if s not in (".las", ".laz")])
def test_damaged_files(tmp_path, suffix):
    outcomes = run(suffix, tmp_path, CASES)
    assert outcomes["refused"] > 0 and sum(outcomes.values()) == CASES


@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_damaged_las_in_a_process_with_little_memory(tmp_path, suffix):
    pytest.importorskip("laspy")
    resource = pytest.importorskip("resource")
    limit = 4 << 30  # bytes of address space; a decoder that trusts a header asks for more
    code = (
        f"import json, resource, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        "import test_fuzz_files; "
        f"resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit})); "
        f"outcomes = test_fuzz_files.run({suffix!r}, {str(tmp_path)!r}, {3 * CASES}); "
        "print(json.dumps([outcomes, test_fuzz_files.most_resident()]))"
    )
    assert resource.RLIMIT_AS
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes, resident = json.loads(done.stdout.splitlines()[-1])
    assert outcomes["refused"] > 0 and sum(outcomes.values()) == 3 * CASES
    assert resident is None or 0 < resident < 1 << 20  # KiB
