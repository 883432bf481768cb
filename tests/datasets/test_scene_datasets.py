import numpy as np
import pytest

from sparseconv.datasets.base import Dataset, available, load
from sparseconv.datasets.rooms import Rooms
from sparseconv.datasets.streets import Streets

PAIR = pytest.mark.parametrize("kind", [Rooms, Streets])


def test_every_file_of_the_folder_is_a_dataset_with_load():
    assert {"rooms", "streets", "folder", "semantic_kitti", "nuscenes"} <= set(available())
    assert not {"base", "labels", "procedural"} & set(available())


@PAIR
def test_items_are_made_on_demand_and_repeat(kind):
    scenes = kind(5, seed=3)
    assert isinstance(scenes, Dataset) and len(scenes) == 5
    np.testing.assert_array_equal(scenes[1].xyz, kind(5, seed=3)[1].xyz)
    np.testing.assert_array_equal(scenes[-1].xyz, scenes[4].xyz)
    assert scenes[0].attributes["label"].max() < len(scenes.labels)


@PAIR
def test_iteration_ends(kind):
    with pytest.raises(IndexError, match="expected"):
        kind(2)[2]


@PAIR
def test_length_must_fit_into_its_block_of_seeds(kind):
    with pytest.raises(ValueError, match="length"):
        kind(0)
    with pytest.raises(ValueError, match="length"):
        kind(10**7)


def test_splits_share_no_scene():
    train, held = load("rooms", split="train", length=2), load("rooms", split="val", length=2)
    assert train.seed != held.seed
    assert train[0].xyz.tobytes() != held[0].xyz.tobytes()


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="rooms"):
        load("castles")
    with pytest.raises(ValueError, match="train, val, test"):
        load("rooms", split="tset")
