"""Instructions, which no other program on the machine can change: a guard against slower kernels.

AVX2, since valgrind knows no AVX-512. A limit is what was counted, and a third more for other
compilers; who makes a kernel faster lowers it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparseconv.backends import native_available

ISA = "avx2"
SCRIPT = Path(__file__).with_name("counted.py")
MARGIN = 4 / 3

# instructions a voxel, a floating-point operation, or a pair and channel, as counted
COUNTED = {
    "rulebook": 934,
    "rulebook, shuffled": 1330,
    "U-Net rulebooks": 874,
    "U-Net rulebooks, shuffled": 887,
    "forward": 0.137,
    "pairs by row": 32.1,
    "depthwise": 0.63,
    "depthwise weight gradient": 0.916,
    "weight gradient": 0.147,
    "sum over taps": 2.82,
    "sum over taps, transposed": 2.83,
    "products of taps": 4.46,
    "dimensions": 8.88,
    "dimensions, gradient": 9.77,
    "dimensions, weight gradient": 6.44,
    "relation": 5.88,
    "gradients of a relation": 24.7,
}


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    if not native_available():
        pytest.skip("the compiled module is not installed")
    from sparseconv import _native

    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    if ISA not in _native.available_isas():
        pytest.skip(f"this machine has no {ISA}")
    log = tmp_path_factory.mktemp("valgrind") / "log"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={os.devnull}"]
    command += [f"--log-file={log}", sys.executable, "-S", str(SCRIPT), _native.__file__, ISA]
    # of the packages only numpy is found; threads of its own would not survive the forks
    packages = str(Path(np.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": packages, "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = run.stdout.splitlines()
    if len(lines) < 2:
        pytest.skip(f"valgrind cannot run this Python: {run.stderr.strip()[-200:]}")
    collected = dict(re.findall(r"==(\d+)== Collected : (\d+)", log.read_text()))
    found = {}
    for line in lines[1:]:
        process, name = line.split(" ", 1)
        found[name] = int(collected[process])
    work = json.loads(lines[0])
    flops = 2 * work["pairs"] * work["channels"] ** 2
    units = {
        "rulebook": work["rows"],
        "rulebook, shuffled": work["rows"],
        "U-Net rulebooks": work["rows"],
        "U-Net rulebooks, shuffled": work["rows"],
        "forward": flops,
        "pairs by row": work["pairs"],
        "depthwise": work["pairs"] * work["channels"],
        "depthwise weight gradient": work["pairs"] * work["channels"],
        "weight gradient": flops,
        "sum over taps": work["pairs"] * work["channels"],
        "sum over taps, transposed": work["pairs"] * work["channels"],
        "products of taps": work["pairs"] * work["channels"],
        "dimensions": work["pairs"] * work["channels"],
        "dimensions, gradient": work["pairs"] * work["channels"],
        "dimensions, weight gradient": work["pairs"] * work["channels"],
        "relation": work["pairs"] * work["channels"],
        "gradients of a relation": work["pairs"] * work["channels"],
    }
    return {name: (found[name] - found["nothing"]) / unit for name, unit in units.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTED)
def test_kernels_take_no_more_instructions(counts, name):
    assert 0.2 * COUNTED[name] < counts[name] < MARGIN * COUNTED[name]
