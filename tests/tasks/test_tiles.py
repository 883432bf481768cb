"""Tiles cover a scan once and stay small."""

import numpy as np
import pytest

from sparseconv.tasks.tiles import tiles


@pytest.fixture
def xyz():
    rng = np.random.default_rng(2)
    return np.concatenate([rng.normal(0, 4, (20_000, 3)), rng.uniform(-40, 40, (5_000, 3))])


def test_cores_cover_every_point_once(xyz):
    seen = np.zeros(len(xyz), dtype=int)
    count = 0
    for rows, core in tiles(xyz, 0.5, largest=3000, margin=4):
        assert (np.diff(rows) > 0).all()
        seen[rows[core]] += 1
        count += 1
    assert (seen == 1).all()
    assert count >= 4


def test_no_core_is_larger_than_asked(xyz):
    for rows, core in tiles(xyz, 0.5, largest=3000, margin=4):
        voxels = np.unique(np.floor((xyz[rows[core]] - xyz.min(0)) / 0.5), axis=0)
        assert len(voxels) <= 3000


def test_the_margin_holds_all_neighbours(xyz):
    for rows, core in tiles(xyz, 0.5, largest=3000, margin=4):
        low, high = xyz[rows[core]].min(0)[:2] - 1.9, xyz[rows[core]].max(0)[:2] + 1.9
        near = ((xyz[:, :2] > low) & (xyz[:, :2] < high)).all(1)
        assert np.isin(np.flatnonzero(near), rows).all()


def test_a_small_scan_is_one_tile_and_an_empty_one_none(xyz):
    [(rows, core)] = tiles(xyz, 0.5)
    assert len(rows) == len(xyz) and core.all()
    assert list(tiles(np.zeros((0, 3)), 0.5)) == []


def test_a_column_that_cannot_be_cut_ends():
    column = np.c_[np.zeros((5000, 2)), np.linspace(0, 500, 5000)]
    [(rows, _)] = tiles(column, 0.1, largest=100)
    assert len(rows) == 5000
