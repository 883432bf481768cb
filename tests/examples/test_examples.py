"""Every example runs as it is, without a display."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNS = {
    "build_rulebooks_in_workers.py": (["--scans", "4"], "rulebooks built while training: 0"),
    "compare_families.py": (
        ["--steps", "2", "--batch", "1", "--families", "submanifold", "depthwise"],
        "depthwise  ",
    ),
    "first_convolution.py": ([], "largest difference from torch's dense convolution"),
    "own_net.py": (["--steps", "6"], "step   5"),
    "segment_scan.py": (["--out", "labelled.ply", "--snapshot", "labelled.png"], "labelled.png"),
    "train_rooms.py": (["--steps", "4", "--batch", "1"], "points of an unseen room"),
    "view_outputs.py": (["--out", "levels", "--no-window"], "stride 16"),
}


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_example_runs(name, tmp_path):
    arguments, expected = RUNS[name]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=tmp_path,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_own_net_learns(tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "own_net.py"), "--steps", "11"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    losses = [float(line.split()[3]) for line in done.stdout.splitlines() if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]
