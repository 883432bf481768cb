import json

import numpy as np
import pytest

from sparseconv.datasets.base import load
from sparseconv.datasets.folder import spread_palette
from sparseconv.io import registry
from sparseconv.io.point_cloud import PointCloud


def scan(label, name="label"):
    label = np.asarray(label, np.int32)
    xyz = np.random.default_rng(len(label)).uniform(0, 5, (len(label), 3)).astype(np.float32)
    return PointCloud(xyz, {name: label})


@pytest.fixture
def root(tmp_path):
    for row in range(6):
        registry.write(tmp_path / f"s{row}.ply", scan([2, 2, 5, 9, row]))
    return tmp_path


def test_labels_are_numbered_when_no_table_is_given(root):
    scans = load("folder", root, "all")
    assert scans.labels.names == tuple(f"class {i}" for i in (0, 1, 2, 3, 4, 5, 9))
    assert scans[0].attributes["label"].tolist() == [2, 2, 5, 6, 0]
    assert len(set(scans.labels.palette)) == 7


def test_a_table_names_and_maps(root):
    table = {"names": ["ground", "tree"], "ids": {"2": 0, "5": 1}}
    (root / "classes.json").write_text(json.dumps(table))
    scans = load("folder", root, "all")
    assert scans.labels.names == ("ground", "tree")
    assert scans[5].attributes["label"].tolist() == [0, 0, 1, 255, 1]


def test_every_fifth_scan_is_held_out(root):
    train, held = load("folder", root, "train"), load("folder", root, "val")
    assert {p.name for p in held.scans} == {"s0.ply", "s5.ply"}
    assert not set(train.scans) & set(held.scans) and len(train) + len(held) == 6


def test_folders_of_splits_are_used_where_there_are_any(root):
    (root / "val").mkdir()
    registry.write(root / "val" / "only.ply", scan([1]))
    assert [p.name for p in load("folder", root, "val").scans] == ["only.ply"]


def test_a_scan_without_labels_is_named_with_what_it_has(tmp_path):
    registry.write(tmp_path / "bare.ply", PointCloud(np.zeros((2, 3)), {"intensity": np.zeros(2)}))
    with pytest.raises(ValueError, match=r"bare\.ply.*label.*intensity"):
        load("folder", tmp_path, "all")


def test_an_empty_folder_lists_the_formats(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\.ply"):
        load("folder", tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("{", "JSON"),
        ("[1]", "names"),
        ('{"names": ["a"], "palette": []}', None),
        ('{"names": ["a"], "palette": [[1, 2, 3], [4, 5, 6]]}', "1 colours"),
        ('{"names": ["a"], "ids": {"7": 3}}', "classes 0 to 0"),
    ],
)
def test_a_bad_table_says_what_is_wrong(root, table, message):
    (root / "classes.json").write_text(table)
    if message is None:
        assert load("folder", root, "all").labels.palette == spread_palette(1)
        return
    with pytest.raises(ValueError, match=message):
        load("folder", root, "all")


def test_a_missing_table_is_not_passed_over(root):
    with pytest.raises(FileNotFoundError, match="table"):
        load("folder", root, table=root / "none.json")
