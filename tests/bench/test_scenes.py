import numpy as np
import pytest
import torch

from sparseconv.bench.scenes import ALIGNMENT, Scene, load_scan, load_scene, shuffled, usual_scenes
from sparseconv.testing import oracle


def test_sites_are_unique_ordered_and_not_negative():
    scene = load_scene("sheet")
    rows = oracle.sites_of(scene.coords)
    assert rows == sorted(set(rows), key=oracle.z_place)
    assert scene.coords.min() >= 0
    assert scene.coords.dtype == torch.int32


def test_points_may_lie_anywhere():
    xyz = np.array([[-3.2, 100.0, 0.0], [5.1, 101.0, -7.0], [np.nan, 0, 0]])
    scene = Scene.of("three", xyz, 0.1)
    assert len(scene.xyz) == 2 and len(scene.coords) == 2
    low, extent = scene.coords[:, 1:].amin(0), scene.extent
    assert (low >= 0).all() and (low < ALIGNMENT).all()
    assert all(size % ALIGNMENT == 0 for size in extent)
    assert (scene.coords[:, 1:] < torch.tensor(extent)).all()
    span = scene.coords[1, 1:] - scene.coords[0, 1:]
    assert span.tolist() == [83, 10, -70]


def test_shuffled_keeps_every_row():
    coords = load_scene("sheet").coords
    mixed = shuffled(coords)
    assert not torch.equal(mixed, coords)
    assert sorted(mixed.tolist()) == sorted(coords.tolist())


def test_nothing_to_voxelise_is_refused():
    with pytest.raises(ValueError, match="at least one finite point"):
        Scene.of("none", np.full((3, 3), np.nan), 0.1)


def test_real_scans_need_their_folder(monkeypatch):
    monkeypatch.delenv("SPARSECONV_REALDATA", raising=False)
    assert usual_scenes() == ["street", "room"]
    with pytest.raises(ValueError, match="SPARSECONV_REALDATA"):
        load_scene("semantickitti")


def test_a_scan_of_ones_own(tmp_path):
    points = np.random.default_rng(0).uniform(0, 1, (50, 3))
    path = tmp_path / "mine.xyz"
    np.savetxt(path, points)
    scene = load_scan(path, 0.5)
    assert scene.name == "mine"
    assert 1 <= len(scene.coords) <= 8
