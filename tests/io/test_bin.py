"""Raw float32 scans: what tells four columns from five, and what a .bin cannot carry."""

import numpy as np
import pytest

from sparseconv.io.bin_io import read_labels, write_labels
from sparseconv.io.errors import FileFormatError
from sparseconv.io.point_cloud import PointCloud
from sparseconv.io.registry import check_writable, read, write


def rows(count, wide, seed=0):
    rng = np.random.default_rng(seed)
    table = rng.normal(scale=20, size=(count, wide)).astype("<f4")
    table[:, 3] = rng.random(count)
    if wide > 4:
        table[:, 4] = rng.integers(0, 32, count)
    return table


@pytest.mark.parametrize("wide", [4, 5])
@pytest.mark.parametrize("count", [7, 10, 20, 400])
def test_the_number_of_columns_is_found(tmp_path, wide, count):
    table = rows(count, wide)
    table.tofile(tmp_path / "a.bin")
    cloud = read(tmp_path / "a.bin")
    assert np.array_equal(cloud.xyz, table[:, :3])
    assert list(cloud.attributes) == ["intensity", "ring"][: wide - 3]
    assert cloud.attributes["intensity"].dtype == np.float32


def test_ambiguous_rows_are_refused_with_the_cure(tmp_path):
    np.zeros(20, "<f4").tofile(tmp_path / "a.bin")
    with pytest.raises(FileFormatError, match=r"both could explain; .*columns="):
        read(tmp_path / "a.bin")
    assert len(read(tmp_path / "a.bin", columns=4)) == 5
    assert len(read(tmp_path / "a.bin", columns=5)) == 4


def test_six_columns_are_not_taken_for_four(tmp_path):
    table = rows(100, 6)
    table.tofile(tmp_path / "a.bin")
    with pytest.raises(FileFormatError, match="neither could explain"):
        read(tmp_path / "a.bin")
    assert np.array_equal(read(tmp_path / "a.bin", columns=6).attributes["column_5"], table[:, 5])


def test_nuscenes_name_means_five(tmp_path):
    rows(20, 5).tofile(tmp_path / "a.pcd.bin")
    assert len(read(tmp_path / "a.pcd.bin")) == 20


@pytest.mark.parametrize("size", [1, 13, 17, 18])
def test_torn_files_are_refused(tmp_path, size):
    (tmp_path / "a.bin").write_bytes(rows(20, 4).tobytes()[:-size])
    with pytest.raises(FileFormatError):
        read(tmp_path / "a.bin")


def test_other_data_are_refused(tmp_path):
    np.full((8, 4), 1e30, "<f4").tofile(tmp_path / "a.bin")
    with pytest.raises(FileFormatError, match="coordinates"):
        read(tmp_path / "a.bin", columns=4)


@pytest.mark.parametrize(("name", "wide"), [("a.bin", 4), ("a.pcd.bin", 5)])
def test_a_scan_comes_back_byte_for_byte(tmp_path, name, wide):
    rows(30, wide).tofile(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    write(tmp_path / name, read(tmp_path / name))
    assert (tmp_path / name).read_bytes() == before


def test_labels_are_refused_before_the_work(tmp_path):
    with pytest.raises(ValueError, match=r"found attribute 'label'; write \.ply"):
        check_writable(tmp_path / "b.bin", ["intensity", "label", "confidence"])
    with pytest.raises(ValueError, match=r"'intensity'.*with_attributes"):
        check_writable(tmp_path / "b.bin", [])


def test_what_float32_cannot_hold_is_refused(tmp_path):
    intensity = np.zeros(1, np.float32)
    with pytest.raises(ValueError, match="xyz: expected values that float32 holds exactly"):
        write(tmp_path / "a.bin", PointCloud([[636000.123, 0, 0]], {"intensity": intensity}))
    with pytest.raises(ValueError, match="at least one point"):
        write(tmp_path / "a.bin", PointCloud([], {"intensity": intensity[:0]}))
    assert not (tmp_path / "a.bin").exists()


def test_semantickitti_labels(tmp_path):
    label, instance = np.array([0, 252, 65535]), np.array([7, 0, 65535])
    write_labels(tmp_path / "a.label", label, instance)
    back = read_labels(tmp_path / "a.label")
    assert back[0].tolist() == label.tolist() and back[1].tolist() == instance.tolist()
    (tmp_path / "a.label").write_bytes(b"12345")
    with pytest.raises(FileFormatError, match="4 bytes each, found 5 bytes"):
        read_labels(tmp_path / "a.label")
    with pytest.raises(ValueError, match="label: expected integers"):
        write_labels(tmp_path / "a.label", np.array([70000]))
