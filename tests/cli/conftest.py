import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from sparseconv.io.point_cloud import PointCloud
from sparseconv.io.registry import write


def make_scan(count=600, seed=0):
    random = np.random.default_rng(seed)
    xyz = random.uniform([0, 0, 0], [4, 3, 2.5], (count, 3)).astype(np.float32)
    return PointCloud(
        xyz.astype(np.float64),
        {
            "rgb": random.integers(0, 256, (count, 3), dtype=np.uint8),
            "ring": random.integers(0, 64, count, dtype=np.uint8),
        },
    )


@pytest.fixture
def cloud():
    return make_scan()


@pytest.fixture
def scan(tmp_path, monkeypatch, cloud):
    """A scan file in the folder that the command runs in."""
    monkeypatch.chdir(tmp_path)
    write("scan.ply", cloud)
    return tmp_path / "scan.ply"


def fake_module(monkeypatch, name, **content):
    module = ModuleType(name)
    for key, value in content.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def fake(monkeypatch):
    """Replace a module that a command imports when it runs."""
    return lambda name, **content: fake_module(monkeypatch, name, **content)


@pytest.fixture
def tasks(monkeypatch):
    """Stand in for the networks: low points are floor, the rest wall; the calls are kept."""
    calls = []

    def segment(cloud, model, *, up="auto", progress=None):
        calls.append(SimpleNamespace(cloud=cloud, model=model, up=up))
        if progress is not None:
            progress("network", 1, 1)
        label = np.where(cloud.xyz[:, 2] < 1.0, 0, 1).astype(np.int32)
        return SimpleNamespace(
            label=label,
            confidence=np.where(label == 0, 0.9, 0.5).astype(np.float32),
            classes=SimpleNamespace(names=("floor", "wall"), colours=((1, 2, 3), (4, 5, 6))),
            timings={"voxels": 0.25, "network": 1.5},
            peak_memory=123_000_000,
            voxels=321,
            up=np.array([0.0, 0.0, 1.0]),
            notes=["up is z"] if up == "auto" else [],
        )

    fake_module(monkeypatch, "sparseconv.tasks.segment", segment=segment)
    fake_module(
        monkeypatch,
        "sparseconv.tasks.choose",
        choose_model=lambda cloud, path: ("rooms", "it has colours"),
    )
    return calls
