"""The measure of memory knows what a step of a known net saves, and sees waste."""

import pytest
import torch
from torch import nn

import sparseconv as sc
from sparseconv.bench import memory
from sparseconv.bench.memory import Memory, can_measure, peak_memory
from sparseconv.testing.scenes import room

ROWS, WIDTH = 20_000, 64
FLOAT = 4


@pytest.fixture(scope="module")
def scan():
    coords = room(ROWS, seed=0)
    return sc.SparseTensor(coords, torch.randn(len(coords), WIDTH), batch_size=1)


@pytest.fixture
def needed(scan):
    if not can_measure():
        pytest.skip("this system does not tell a process its peak memory")


class Squares(nn.Module):
    """Row by row: a matrix, its square, its square again; then logits."""

    def __init__(self, waste=0):
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, 5)
        self.waste = waste

    def forward(self, x):
        y = self.first(x.features)
        y = y * y
        y = y * y
        held = [torch.ones_like(y) for _ in range(self.waste)]
        made = x.replace(features=self.last(y))
        del held
        return made


def test_what_is_saved_is_counted_once_a_storage(needed, scan):
    net = Squares()
    found = peak_memory(net, scan, torch.zeros(len(scan), dtype=torch.int64))
    table = len(scan) * WIDTH * FLOAT
    weights = (WIDTH * WIDTH + WIDTH * 5 + 5) * FLOAT
    assert found.features == table
    assert (found.weights, found.gradients, found.state) == (weights, weights, weights)
    # both factors of a square are one tensor; log_softmax keeps its result [N, 5], the mean a sum
    activations = 3 * table + len(scan) * 5 * FLOAT
    assert activations <= found.activations <= activations + 64
    assert found.rows == 0


def test_peak_holds_what_is_needed_and_shows_waste(needed, scan):
    labels = torch.zeros(len(scan), dtype=torch.int64)
    table = len(scan) * WIDTH * FLOAT
    lean = peak_memory(Squares(), scan, labels)
    assert lean.peak >= 0.9 * lean.needed
    assert lean.ratio == lean.peak / lean.needed
    wasteful = peak_memory(Squares(waste=8), scan, labels)
    assert wasteful.activations == lean.activations
    assert wasteful.peak - lean.peak > 2 * table


def test_rulebooks_are_built_anew_and_counted_apart(needed, scan):
    net = sc.nn.SubMConv3d(WIDTH, 5, 3)
    built = dict(scan.topology.rulebooks)
    found = peak_memory(net, scan, torch.zeros(len(scan), dtype=torch.int64))
    assert scan.topology.rulebooks == built
    fresh = sc.SparseTensor(scan.coords, scan.features, batch_size=1)
    net(fresh)
    (book,) = fresh.topology.rulebooks.values()
    assert found.rows == 8 * len(book) + 8 * 28


def test_gradients_and_step_are_those_of_the_optimiser_given(needed, scan):
    net = Squares()
    before = net.last.weight.detach().clone()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    found = peak_memory(net, scan, torch.zeros(len(scan), dtype=torch.int64), optimiser)
    assert found.state == 0 and not torch.equal(net.last.weight, before)


def test_ratio_is_over_the_sum():
    made = Memory(peak=30, features=1, activations=2, rows=100, weights=3, gradients=4, state=5)
    assert made.needed == 15 and made.ratio == 2.0


def test_a_system_without_the_counter_is_told(monkeypatch, tmp_path, scan):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "no folder" / "none")
    assert not can_measure()
    with pytest.raises(
        RuntimeError, match=r"peak_memory: expected .* found none; measure on Linux"
    ):
        peak_memory(Squares(), scan, torch.zeros(len(scan), dtype=torch.int64))
