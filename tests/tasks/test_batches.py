"""What training steps are given: the same from workers as from this process, and a clean end."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from sparseconv.io.point_cloud import PointCloud
from sparseconv.tasks import batches as batches_module
from sparseconv.tasks import recipe as recipes
from sparseconv.tasks import scenes as scenes_module
from sparseconv.tasks import train
from sparseconv.tasks.batches import Batches
from sparseconv.tasks.checkpoint import load_checkpoint, make_network
from sparseconv.tasks.scenes import Scenes

# workers are forked beside the threads of torch
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def limits(monkeypatch):
    monkeypatch.setattr(batches_module, "PATIENCE", 120.0)
    monkeypatch.setattr(scenes_module, "TRAINING_SCENES", 3)
    monkeypatch.setattr(scenes_module, "VALIDATION_SCENES", 1)
    monkeypatch.setattr(train, "WEIGHING_SCENES", 2)


@pytest.fixture(autouse=True)
def forks():
    """Start workers by forking: they then know what a test has replaced."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("fork", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


class Boxes:
    """Scans of random points, small and quickly made; one of them cannot be read."""

    def __init__(self, broken=None):
        self.broken = broken

    def __len__(self):
        return 5

    def __getitem__(self, row):
        if row == self.broken:
            raise ValueError("scan.ply: expected points,\nfound none")
        rng = np.random.default_rng(row)
        xyz = rng.uniform(-1, 1, (900, 3)) * [2, 2, 0.5]
        return PointCloud(xyz, {"label": rng.integers(-1, 3, 900).astype(np.int32)})


def boxes(broken=None):
    scenes = Scenes(recipes.rooms(0.2), Boxes(broken), Boxes())
    return Batches(scenes, 2, seed=1), make_network(scenes.recipe)


def assert_same(one, other):
    (x, truth), (y, labels) = one, other
    assert torch.equal(x.coords, y.coords) and torch.equal(x.features, y.features)
    assert torch.equal(truth, labels) and x.batch_size == y.batch_size


def test_workers_give_the_same_batches_in_turn():
    here, network = boxes()
    there, _ = boxes()
    made = list(there.in_turn(range(3, 8), network, 2))
    assert len(made) == 5
    for one, other in zip(here.in_turn(range(3, 8), network, 0), made, strict=True):
        assert_same(one, other)


def test_workers_build_what_the_network_asks_for(built):
    batches, network = boxes()
    for x, _ in batches.in_turn(range(2), network, 1):
        with built() as counted:
            network(x)
        assert counted.ops == []


def test_batches_can_be_sent_to_a_spawned_process():
    batches, _ = boxes()
    twin = pickle.loads(pickle.dumps(batches))
    assert_same(batches[4], twin[4])


def test_what_the_data_raises_arrives_as_it_was():
    batches, network = boxes(broken=0)
    with pytest.raises(ValueError) as found:
        list(batches.in_turn(range(5), network, 1))
    assert str(found.value) == "scan.ply: expected points,\nfound none"


def test_too_little_shared_memory_is_said_and_nobody_waits(monkeypatch):
    def full(*arguments, **options):
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    batches, network = boxes()
    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", full)
    with pytest.raises(OSError, match=r"shared memory: expected room.*No space.*fewer workers"):
        next(batches.in_turn(range(5), network, 1))


def test_leaving_early_ends_the_workers():
    batches, network = boxes()
    before = children()
    running = batches.in_turn(range(100), network, 2)
    next(running)
    assert len(children() - before) == 2
    running.close()
    assert children() == before


def children():
    """Processes whose parent this one is, ended ones that nobody has waited for included."""
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("this system does not list processes")
    found = set()
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/children") as file:
            found |= set(map(int, file.read().split()))
    return found


def test_training_with_workers_gives_the_same_weights(tmp_path):
    options = {"steps": 4, "batch": 1, "save_every": 2, "voxel": 0.15}
    train.train("rooms", tmp_path / "alone", **options)
    train.train("rooms", tmp_path / "helped", workers=2, **options)
    alone, helped = (
        load_checkpoint(tmp_path / n / "last.pt")[0].state_dict() for n in ("alone", "helped")
    )
    assert all(torch.equal(value, helped[name]) for name, value in alone.items())


def test_a_number_of_workers_below_zero_is_refused(tmp_path):
    with pytest.raises(ValueError, match="workers: expected a whole number, 0 for none, found -1"):
        train.train("rooms", tmp_path, workers=-1)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups on this system")
def test_ctrl_c_ends_every_process_in_one_line(tmp_path):
    words = ["rooms", "--out", str(tmp_path / "run"), "--steps", "100000", "--batch", "1"]
    command = [sys.executable, "-m", "sparseconv.cli.main", "train", *words, "--voxel", "0.2"]
    errors = tmp_path / "errors"
    with errors.open("w") as file:
        running = subprocess.Popen(
            [*command, "--workers", "2", "--threads", "1"],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,
        )
    try:
        # progress is told once the first steps are done
        for _ in range(1200):
            if "train:" in errors.read_text() or running.poll() is not None:
                break
            time.sleep(0.1)
        assert running.poll() is None, errors.read_text()
        # a terminal sends it to the whole group
        os.killpg(running.pid, signal.SIGINT)
        running.communicate(timeout=60)
        assert running.returncode == 130
        *progress, last = errors.read_text().splitlines()
        assert all(line.startswith("train:") for line in progress)
        assert last.startswith("sparseconv train: interrupted; the same command goes on from")
        with pytest.raises(ProcessLookupError):
            os.killpg(running.pid, 0)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.communicate(timeout=60)
