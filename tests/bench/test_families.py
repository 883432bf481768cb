"""Families in turns with the plain convolution."""

import pytest
import torch

from sparseconv.bench import families as bench
from sparseconv.bench.memory import can_measure
from sparseconv.nn.families import family
from sparseconv.testing.scenes import room


@pytest.fixture
def coords():
    sites = room(800, seed=0)
    sites[:, 1:] -= sites[:, 1:].amin(0)
    return sites


def test_the_plain_convolution_takes_as_long_as_itself(coords):
    (row,) = bench.bench_families([family("submanifold")], coords, 16)
    assert row.error == "" and row.ratio.low <= row.ratio.median <= row.ratio.high
    assert 0.2 < row.ratio.median < 5
    assert row.cost.parameters == 27 * 16 * 16 + 16 and row.memory is None


def test_a_family_that_fails_is_named_and_the_others_go_on(coords, monkeypatch):
    timed = bench.time_family

    def refuse(entry, x):
        if entry.key == "submanifold":
            raise ValueError("channels: expected\nothers")
        return timed(entry, x, rounds=3)

    monkeypatch.setattr(bench, "time_family", refuse)
    said = []
    rows = list(
        bench.bench_families(
            [family("submanifold"), family("grouped")],
            coords,
            8,
            progress=lambda *step: said.append(step),
        )
    )
    assert rows[0].error == "channels: expected others" and rows[1].error == ""
    assert said == [("submanifold", 0, 2), ("grouped", 1, 2), ("done", 2, 2)]


def test_no_weight_of_a_timed_layer_is_zero(coords):
    x = bench.scan_tensor(coords, 8)
    assert x.spatial_shape is not None
    before = torch.get_rng_state()
    layer = bench.family_layer(family("submanifold"), x)
    assert torch.equal(before, torch.get_rng_state())
    assert all(p.all() for p in layer.parameters()) and layer.training


def test_memory_is_counted_in_inputs(coords):
    if not can_measure():
        pytest.skip("this system does not tell a process its peak memory")
    large = torch.cat([coords + torch.tensor([0, 64 * i, 0, 0]).int() for i in range(40)])
    (row,) = bench.bench_families([family("submanifold")], large, 64, memory=True)
    # the output, its gradient and the input's
    assert 2 < row.memory < 6
