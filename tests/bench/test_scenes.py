import numpy as np
import pytest
import torch

from sparseconv.bench import sized
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


@pytest.mark.parametrize("name", ["street-900", "room-2k"])
def test_scenes_of_any_size(name):
    scene = load_scene(name)
    assert len(scene.coords) == len(scene.xyz) == {"street-900": 900, "room-2k": 2000}[name]
    assert scene.name == name


def test_tiles_lie_side_by_side(monkeypatch):
    tile = np.array([[-3, 0, 0], [2, 1, 5], [0, 2, 0]], np.int32)
    monkeypatch.setattr(
        sized, "_tile", lambda kind, seed: tile + np.array([0, 0, 10 * seed], np.int32)
    )
    points = sized.sized_points("room", 26)
    sites = np.floor(points / 0.02).astype(int)
    assert len(np.unique(sites, axis=0)) == 26
    # eight ways to lay the first scan, then one sector of the second
    assert (sites[:, 2] >= 10).sum() == 2
    distances = np.abs(sites[:3, None, :2] - sites[None, 3:, :2]).max(-1)
    assert distances.min() > 1


@pytest.mark.parametrize("name", ["street-0", "street-1G", "moon-5k", "street-", "sheet-5"])
def test_names_that_are_no_size(name):
    with pytest.raises(ValueError, match=r"^--scenes: expected"):
        load_scene(name)
