import os
from pathlib import Path

import numpy as np
import pytest

from sparseconv.datasets.base import load
from sparseconv.datasets.labels import IGNORE, STREETS

RAW = np.array([40, 48, (7 << 16) | 252, 99], "<u4")


@pytest.fixture
def root(tmp_path):
    for sequence, names in (("00", ("000000", "000001")), ("08", ("000000",)), ("11", ("000000",))):
        for name in names:
            folder = tmp_path / "sequences" / sequence
            (folder / "velodyne").mkdir(parents=True, exist_ok=True)
            rows = np.arange(16, dtype="<f4").reshape(4, 4)
            (folder / "velodyne" / f"{name}.bin").write_bytes(rows.tobytes())
            if sequence != "11":
                (folder / "labels").mkdir(exist_ok=True)
                (folder / "labels" / f"{name}.label").write_bytes(RAW.tobytes())
    return tmp_path


def test_splits_are_the_official_ones(root):
    sizes = {
        split: len(load("semantic_kitti", root, split)) for split in ("train", "val", "test", "all")
    }
    assert sizes == {"train": 2, "val": 1, "test": 1, "all": 4}


def test_points_labels_and_instances_are_read(root):
    cloud = load("semantic_kitti", root, "val")[0]
    np.testing.assert_array_equal(cloud.xyz[1], [4, 5, 6])
    assert cloud.attributes["intensity"].tolist() == [3, 7, 11, 15]
    expected = [STREETS.index("road"), STREETS.index("sidewalk"), STREETS.index("vehicle"), IGNORE]
    assert cloud.attributes["label"].tolist() == expected
    assert cloud.attributes["instance"].tolist() == [0, 0, 7, 0]
    raw = load("semantic_kitti", root, "val", raw=True)[0]
    assert raw.attributes["label"].tolist() == [40, 48, 252, 99]


def test_the_test_split_has_no_labels(root):
    assert "label" not in load("semantic_kitti", root, "test")[0].attributes


def test_damaged_files_are_named(root):
    scan = root / "sequences" / "08" / "velodyne" / "000000.bin"
    scan.write_bytes(scan.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"000000\.bin.*multiple of 16"):
        load("semantic_kitti", root, "val")[0]
    label = root / "sequences" / "00" / "labels" / "000000.label"
    label.write_bytes(RAW[:3].tobytes())
    with pytest.raises(ValueError, match=r"000000\.label.*16 bytes"):
        load("semantic_kitti", root, "train")[0]


def test_an_empty_or_missing_root_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="sequences"):
        load("semantic_kitti", tmp_path)
    with pytest.raises(FileNotFoundError, match="root"):
        load("semantic_kitti", None)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load("semantic_kitti", tmp_path / "nowhere")


def test_the_real_scan():
    folder = os.environ.get("SPARSECONV_REALDATA")
    if not folder:
        pytest.skip("SPARSECONV_REALDATA is not set")
    cloud = load("semantic_kitti", Path(folder) / "semantickitti")[0]
    label = cloud.attributes["label"]
    counts = np.bincount(label[label != IGNORE], minlength=len(STREETS))
    assert len(cloud) == 124_668
    assert counts[STREETS.index("road")] == 34228 + 3268 + 1053
    assert counts[STREETS.index("vehicle")] == 4234
    assert (label == IGNORE).sum() == 2184 + 4 + 1471 + 1227
