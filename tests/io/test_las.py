"""LAS and LAZ: everything of the file survives, labels are added, claims are checked."""

import struct

import numpy as np
import pytest

from sparseconv.io.errors import FileFormatError
from sparseconv.io.point_cloud import PointCloud
from sparseconv.io.registry import check_writable, read, write

laspy = pytest.importorskip("laspy")
SUFFIXES = [".las", ".laz"]


def survey(path, version="1.2", form=3, count=300, seed=0):
    """A file made by laspy alone, with extra bytes, one of them scaled, and a VLR."""
    rng = np.random.default_rng(seed)
    header = laspy.LasHeader(version=version, point_format=form)
    header.scales, header.offsets = [0.01, 0.01, 0.001], [600000.0, 5000000.0, 0.0]
    header.add_extra_dim(laspy.ExtraBytesParams("height above ground", "f4"))
    header.add_extra_dim(laspy.ExtraBytesParams("echo", "3u2"))
    header.add_extra_dim(
        laspy.ExtraBytesParams("width", "i4", scales=np.array([0.1]), offsets=np.array([5.0]))
    )
    header.vlrs.append(laspy.VLR("LASF_Projection", 2112, "wkt", b'PROJCS["x",UNIT["metre",1]]\0'))
    las = laspy.LasData(header)
    las.X, las.Y, las.Z = rng.integers(-(2**31), 2**31 - 1, (3, count))
    las.intensity = rng.integers(0, 65536, count)
    las.classification = rng.integers(0, 20, count)
    las.return_number = rng.integers(1, 5, count)
    las.gps_time = rng.random(count) * 1e6
    for name in ("red", "green", "blue"):
        las[name] = rng.integers(0, 65536, count)
    las["height above ground"] = rng.random(count)
    las["echo"] = rng.integers(0, 65536, (count, 3))
    las["width"] = rng.integers(-1000, 1000, count) * 0.1 + 5
    las.write(str(path))
    return laspy.read(str(path))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("version", "form"), [("1.2", 3), ("1.4", 7), ("1.4", 8)])
def test_reads_what_laspy_wrote(tmp_path, suffix, version, form):
    las = survey(tmp_path / f"a{suffix}", version, form)
    cloud = read(tmp_path / f"a{suffix}")
    assert np.array_equal(cloud.xyz, las.xyz)
    assert np.array_equal(cloud.attributes["rgb"][:, 2], las.blue)
    for name in ("intensity", "classification", "gps_time", "echo", "width", "height above ground"):
        assert np.array_equal(cloud.attributes[name], np.asarray(las[name])), name
    assert cloud.meta["unit"] == "metre"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("version", "form"), [("1.2", 3), ("1.4", 7)])
def test_labels_are_added_and_nothing_else_changes(tmp_path, suffix, version, form):
    before = survey(tmp_path / "a.las", version, form)
    cloud = read(tmp_path / "a.las")
    label = np.arange(len(cloud), dtype=np.int32)
    confidence = np.linspace(0, 1, len(cloud), dtype=np.float32)
    write(tmp_path / f"b{suffix}", cloud.with_attributes(label=label, confidence=confidence))
    after = laspy.read(str(tmp_path / f"b{suffix}"))
    for name in before.point_format.dimension_names:
        assert np.array_equal(np.asarray(after[name]), np.asarray(before[name])), name
    assert np.array_equal(after["label"], label) and after["label"].dtype == np.int32
    assert np.array_equal(after["confidence"], confidence)
    assert after.header.point_format.id == form
    assert np.array_equal(after.header.scales, before.header.scales)
    assert np.array_equal(after.header.offsets, before.header.offsets)
    kept = [v.record_data_bytes() for v in after.header.vlrs if v.record_id == 2112]
    assert kept == [v.record_data_bytes() for v in before.header.vlrs if v.record_id == 2112]


def test_an_attribute_that_was_dropped_is_not_written(tmp_path):
    survey(tmp_path / "a.las")
    cloud = read(tmp_path / "a.las")
    kept = {name: v for name, v in cloud.attributes.items() if name != "echo"}
    write(tmp_path / "b.las", cloud.replace(attributes=kept))
    assert "echo" not in read(tmp_path / "b.las").attributes


def test_colours_move_the_point_format(tmp_path):
    las = laspy.LasData(laspy.LasHeader(version="1.2", point_format=1))
    las.X, las.Y, las.Z = np.arange(9).reshape(3, 3)
    las.gps_time = np.arange(3.0)
    las.write(str(tmp_path / "a.las"))
    rgb = np.array([[1, 2, 3]] * 3, np.uint16)
    write(tmp_path / "b.las", read(tmp_path / "a.las").with_attributes(rgb=rgb))
    after = read(tmp_path / "b.las")
    assert np.array_equal(after.attributes["rgb"], rgb)
    assert after.attributes["gps_time"].tolist() == [0, 1, 2]


def test_floating_intensity_is_kept_exactly(tmp_path):
    intensity = np.array([0.32, 0.0, 1.0], np.float32)
    write(tmp_path / "a.laz", PointCloud(np.eye(3), {"intensity": intensity}))
    back = read(tmp_path / "a.laz").attributes["intensity"]
    assert back.dtype == np.float32 and np.array_equal(back, intensity)


def test_moved_points_get_a_new_grid(tmp_path):
    survey(tmp_path / "a.las")
    cloud = read(tmp_path / "a.las")
    moved = cloud.replace(xyz=cloud.xyz / 1e6 + np.array([1e8, 0, 0]))
    write(tmp_path / "b.las", moved)
    np.testing.assert_allclose(read(tmp_path / "b.las").xyz, moved.xyz, rtol=0, atol=0.51e-6)


@pytest.mark.parametrize(
    ("cloud", "message"),
    [
        (PointCloud([[np.nan, 0, 0]]), "finite coordinates"),
        (PointCloud([[0, 0, 0], [1e8, 0, 0]]), "extent"),
        (PointCloud([[0, 0, 0]], {"a" * 33: np.zeros(1)}), "at most 32 bytes"),
    ],
)
def test_what_las_cannot_carry_is_refused(tmp_path, cloud, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.las", cloud)
    assert not (tmp_path / "a.las").exists()


def test_copc_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match=r"\.copc\.laz; write \.laz"):
        check_writable(tmp_path / "a.copc.laz")


def patched(path, layout, at, *values):
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, at, *values)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("layout", "at", "value", "message"),
    [
        ("<4s", 0, b"LASX", "begins with 'LASF'"),
        ("<B", 25, 9, "LAS version"),
        ("<H", 94, 9, "header size"),
        ("<I", 96, 2**31, "header size"),
        ("<I", 100, 1069128089, "1069128089 VLRs"),
        ("<I", 100, 60, "VLRs"),
        ("<B", 104, 60, "point format"),
        ("<H", 105, 3, "point format"),
        ("<I", 107, 4 * 10**9, "4000000000 points"),
        ("<d", 131, 0.0, "scales not 0"),
        ("<d", 155, float("nan"), "finite scales"),
        ("<H", 227 + 20, 65535, "VLR 1"),
    ],
)
def test_a_false_header_is_refused_before_laspy_sees_it(tmp_path, layout, at, value, message):
    survey(tmp_path / "a.las")
    patched(tmp_path / "a.las", layout, at, value)
    with pytest.raises(FileFormatError, match=message):
        read(tmp_path / "a.las")


def test_false_chunks_are_refused_before_the_decoder_sees_them(tmp_path):
    path = tmp_path / "a.laz"
    survey(path, "1.4", 7)
    data = path.read_bytes()
    start = struct.unpack_from("<I", data, 96)[0]
    width = struct.unpack_from("<H", data, 105)[0]
    table = struct.unpack_from("<q", data, start)[0]
    for layout, at, value, message in (
        ("<q", start, 10**15, "chunk table"),
        ("<I", table + 4, 2**31, "2147483648 chunks"),
        ("<I", start + 8 + width + 4, 2**32 - 1, "layers"),
        ("<Q", 247, 10**12, "1000000000000 points"),
    ):
        path.write_bytes(data)
        patched(path, layout, at, value)
        with pytest.raises(FileFormatError, match=message):
            read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_truncated_files_are_refused(tmp_path, suffix, kept):
    path = tmp_path / f"a{suffix}"
    survey(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(FileFormatError):
        read(path)
