"""Networks on disk."""

import dataclasses

import pytest
import torch

from sparseconv.tasks import checkpoint as checkpoints
from sparseconv.tasks import recipe as recipes
from sparseconv.tasks.checkpoint import (
    BUILT_IN,
    PRETRAINED,
    load_checkpoint,
    load_weights,
    make_network,
    save_checkpoint,
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return make_network(recipes.rooms())


@pytest.mark.parametrize("half", [False, True])
def test_weights_and_recipe_come_back(network, tmp_path, half):
    path = tmp_path / "net.pt"
    save_checkpoint(path, network, recipes.rooms(), half=half, training={"step": 3})
    again, recipe, training = load_checkpoint(path)
    assert recipe == recipes.rooms()
    assert training == {"step": 3}
    assert not again.training
    for name, value in network.state_dict().items():
        stored = value.half().float() if half and value.dim() > 1 else value
        assert torch.equal(again.state_dict()[name], stored), name
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(network, tmp_path, monkeypatch):
    path = tmp_path / "net.pt"
    save_checkpoint(path, network, recipes.rooms())
    before = path.read_bytes()

    def fail(content, file):
        file.write(b"half a fi")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints.torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, network, recipes.rooms())
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]


def test_files_that_are_no_checkpoint_are_refused_by_name(network, tmp_path):
    whole = tmp_path / "whole.pt"
    save_checkpoint(whole, network, recipes.rooms())
    (tmp_path / "cut.pt").write_bytes(whole.read_bytes()[:5000])
    (tmp_path / "text.pt").write_text("ply\nformat ascii 1.0\n")
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save({"state_dict": {}, "epoch": 3}, tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save(network.stem, tmp_path / "module.pt")
    for name in ("cut", "text", "empty", "other", "list", "module"):
        with pytest.raises(ValueError, match=rf"{name}\.pt: expected a checkpoint of sparseconv"):
            load_checkpoint(tmp_path / f"{name}.pt")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing there; .*rooms, streets"):
        load_checkpoint(tmp_path / "no.pt")
    with pytest.raises(FileNotFoundError, match="found a folder"):
        load_checkpoint(tmp_path)


def test_another_version_is_refused(network, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "VERSION", 99)
    save_checkpoint(tmp_path / "new.pt", network, recipes.rooms())
    monkeypatch.undo()
    with pytest.raises(ValueError, match="expected checkpoint version 1, found version 99"):
        load_checkpoint(tmp_path / "new.pt")


def test_weights_of_other_channels_are_refused_with_both_shapes(network):
    other = make_network(dataclasses.replace(recipes.rooms(), classes=("a",), colours=((0, 0, 0),)))
    with pytest.raises(ValueError, match=r"weight classify.*shape \(1,.*found \(8,"):
        load_weights(other, network.state_dict(), "net.pt")


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_models_of_the_package_are_small_and_load(name):
    assert (PRETRAINED / f"{name}.pt").stat().st_size <= 3_000_000
    network, recipe, training = load_checkpoint(name)
    assert recipe.name == name
    assert training is None
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
