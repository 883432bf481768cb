"""Without the compiled module everything still works, and says that it is slow."""

import os
import subprocess
import sys
import textwrap

CHILD = """
import sys, warnings
sys.modules["sparseconv._native"] = None
import torch, sparseconv as sc

coords = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.int32)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for _ in range(2):
        x = sc.SparseTensor(coords, torch.ones(2, 3))
        y = sc.nn.SubMConv3d(3, 4, 3)(x)
print(y.features.shape, sum("many times slower" in str(warning.message) for warning in said))
"""


def run(**environment):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_said_once():
    assert run(SPARSECONV_BACKEND="auto") == "torch.Size([2, 4]) 1"


def test_who_asked_for_the_reference_is_not_warned():
    assert run(SPARSECONV_BACKEND="reference") == "torch.Size([2, 4]) 0"
