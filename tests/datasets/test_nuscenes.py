import json

import numpy as np
import pytest

from sparseconv.datasets.base import load
from sparseconv.datasets.labels import STREETS

NAME = "n015__LIDAR_TOP__1.pcd.bin"


@pytest.fixture
def root(tmp_path):
    sweeps = tmp_path / "samples" / "LIDAR_TOP"
    sweeps.mkdir(parents=True)
    (sweeps / NAME).write_bytes(np.arange(15, dtype="<f4").tobytes())
    return tmp_path


def labelled(root, raw):
    version, folder = root / "v1.0-mini", root / "lidarseg" / "v1.0-mini"
    version.mkdir()
    folder.mkdir(parents=True)
    (folder / "a.bin").write_bytes(bytes(raw))
    data = [{"token": "t", "filename": f"samples/LIDAR_TOP/{NAME}"}]
    rows = [{"sample_data_token": "t", "filename": "lidarseg/v1.0-mini/a.bin"}]
    (version / "sample_data.json").write_text(json.dumps(data))
    (version / "lidarseg.json").write_text(json.dumps(rows))


def test_a_sweep_without_labels(root):
    cloud = load("nuscenes", root, "all")[0]
    np.testing.assert_array_equal(cloud.xyz[2], [10, 11, 12])
    assert cloud.attributes["ring"].tolist() == [4, 9, 14]
    assert "label" not in cloud.attributes


def test_a_sweep_with_labels(root):
    labelled(root, [24, 0, 17])
    label = load("nuscenes", root, "all")[0].attributes["label"]
    assert label.tolist() == [STREETS.index("road"), 255, STREETS.index("vehicle")]


def test_labels_of_another_length_are_refused(root):
    labelled(root, [24])
    with pytest.raises(ValueError, match=r"a\.bin.*3 labels"):
        load("nuscenes", root, "all")[0]


def test_a_folder_without_sweeps_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="LIDAR_TOP"):
        load("nuscenes", tmp_path, "all")
