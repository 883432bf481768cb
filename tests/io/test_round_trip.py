"""What is written is read again: points, order, names, dtypes, bits."""

import numpy as np
import pytest

from sparseconv.io.point_cloud import PointCloud
from sparseconv.io.registry import check_writable, read, writable_suffixes, write

EXACT = [s for s in writable_suffixes() if s not in (".bin", ".las", ".laz", ".csv")]
LABELLED = [s for s in writable_suffixes() if s != ".bin"]


def labelled(count=257, seed=0):
    """A scan at UTM coordinates with everything a segmentation adds."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(count, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return PointCloud(
        rng.uniform(-50, 50, (count, 3)) + np.array([636000.123, 5648349.7, 241.3]),
        {
            "intensity": rng.random(count, dtype=np.float32),
            "rgb": rng.integers(0, 256, (count, 3), dtype=np.uint8),
            "normal": normal.astype(np.float32),
            "scan angle, deg": rng.integers(-90, 90, count).astype(np.int16),
            "descriptor": rng.random((count, 5)),
            "label": rng.integers(0, 20, count, dtype=np.int32),
            "confidence": rng.random(count, dtype=np.float32),
        },
    )


def assert_same(back, given, *, dtypes=True):
    assert np.array_equal(back.xyz, given.xyz, equal_nan=True)
    for name, values in given.attributes.items():
        found = back.attributes[name]
        assert np.array_equal(found, values, equal_nan=values.dtype.kind == "f"), name
        assert not dtypes or found.dtype == values.dtype, name


@pytest.mark.parametrize("suffix", EXACT)
@pytest.mark.parametrize("count", [0, 1, 257])
def test_exact_formats_keep_every_bit(tmp_path, suffix, count):
    given = labelled(count)
    write(tmp_path / f"a{suffix}", given)
    back = read(tmp_path / f"a{suffix}")
    assert len(back) == count
    assert_same(back, given)
    assert set(back.attributes) == set(given.attributes)
    if suffix != ".pts":
        assert list(back.attributes) == list(given.attributes)


@pytest.mark.parametrize("suffix", EXACT)
def test_a_second_round_writes_the_same_bytes(tmp_path, suffix):
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write(first, labelled())
    write(second, read(first))
    if suffix == ".npz":
        assert_same(read(second), read(first))
    else:
        assert first.read_bytes() == second.read_bytes()


def test_csv_keeps_every_value(tmp_path):
    write(tmp_path / "a.csv", labelled())
    assert_same(read(tmp_path / "a.csv"), labelled(), dtypes=False)


@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_las_keeps_attributes_and_a_micrometre(tmp_path, suffix):
    pytest.importorskip("laspy")
    given = labelled()
    write(tmp_path / f"a{suffix}", given)
    back = read(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(back.xyz, given.xyz, rtol=0, atol=0.51e-6)
    rest = {n: v for n, v in given.attributes.items() if n != "rgb"}
    assert_same(back.replace(xyz=given.xyz), given.replace(attributes=rest))
    assert np.array_equal(back.attributes["rgb"], given.attributes["rgb"].astype(np.uint16) * 257)
    write(tmp_path / f"b{suffix}", back)
    again = read(tmp_path / f"b{suffix}")
    assert_same(again, back)


@pytest.mark.parametrize("suffix", LABELLED)
def test_a_labelled_output_can_be_written_in_every_format(tmp_path, suffix):
    given = labelled(40)
    check_writable(tmp_path / f"a{suffix}", given)
    check_writable(tmp_path / f"a{suffix}", list(given.attributes))
    write(tmp_path / f"a{suffix}", given)
    back = read(tmp_path / f"a{suffix}")
    for name in ("label", "confidence"):
        assert np.array_equal(
            back.attributes[name].astype(given.attributes[name].dtype), given.attributes[name]
        )


@pytest.mark.parametrize("suffix", [s for s in EXACT if s != ".bin"])
def test_nan_and_infinite_points_stay_in_place(tmp_path, suffix):
    xyz = np.array([[np.nan, 0, 1], [1, 2, 3], [np.inf, -np.inf, np.nan]])
    write(tmp_path / f"a{suffix}", PointCloud(xyz))
    assert np.array_equal(read(tmp_path / f"a{suffix}").xyz, xyz, equal_nan=True)


@pytest.mark.parametrize("suffix", EXACT)
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
def test_every_common_dtype(tmp_path, suffix, dtype):
    values = np.array([0, 1, 100], dtype)
    if values.dtype.kind in "iu":
        values[:2] = np.iinfo(dtype).min, np.iinfo(dtype).max
    else:
        values[:2] = np.finfo(dtype).tiny, np.finfo(dtype).max
    given = PointCloud(np.eye(3), {"value": values})
    write(tmp_path / f"a{suffix}", given)
    assert_same(read(tmp_path / f"a{suffix}"), given)


@pytest.mark.parametrize("suffix", [".pcd", ".npy", ".npz", ".xyz", ".pts", ".off", ".obj"])
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_sixty_four_bits(tmp_path, suffix, dtype):
    values = np.array([np.iinfo(dtype).max, np.iinfo(dtype).min, 2**53 + 1], dtype)
    given = PointCloud(np.eye(3), {"time": values})
    write(tmp_path / f"a{suffix}", given)
    assert_same(read(tmp_path / f"a{suffix}"), given)


def test_ply_narrows_or_refuses_sixty_four_bits(tmp_path):
    small = PointCloud(np.eye(3), {"label": np.array([1, 2, 40], np.int64)})
    write(tmp_path / "a.ply", small)
    assert read(tmp_path / "a.ply").attributes["label"].tolist() == [1, 2, 40]
    large = PointCloud(np.eye(3), {"time": np.array([1, 2, 2**40])})
    with pytest.raises(ValueError, match=r"attribute 'time': .*\.npz"):
        write(tmp_path / "b.ply", large)
    assert not (tmp_path / "b.ply").exists()


@pytest.mark.parametrize("suffix", EXACT)
def test_sixteen_bit_colours(tmp_path, suffix):
    for rgb in ([[1, 2, 3]], [[0, 1, 1]], [[257, 514, 65535]], [[65534, 255, 0]]):
        given = PointCloud(np.zeros((1, 3)), {"rgb": np.array(rgb, np.uint16)})
        write(tmp_path / f"a{suffix}", given)
        assert_same(read(tmp_path / f"a{suffix}"), given)


@pytest.mark.parametrize("suffix", EXACT)
@pytest.mark.parametrize("rgb", [[0, 0, 0], [1, 0, 1], [255, 254, 1]])
def test_dark_colours_are_not_taken_for_fractions(tmp_path, suffix, rgb):
    given = PointCloud(np.eye(3), {"rgb": np.array([rgb] * 3, np.uint8)})
    write(tmp_path / f"a{suffix}", given)
    assert_same(read(tmp_path / f"a{suffix}"), given)


@pytest.mark.parametrize("suffix", EXACT)
def test_alpha_beside_colours(tmp_path, suffix):
    rgb = np.arange(9, dtype=np.uint8).reshape(3, 3) * 20
    for alpha in (np.array([0, 128, 255], np.uint8), np.array([0, 0.5, 1])):
        given = PointCloud(np.eye(3), {"rgb": rgb, "alpha": alpha})
        write(tmp_path / f"a{suffix}", given)
        assert_same(read(tmp_path / f"a{suffix}"), given)


def test_colliding_columns_are_refused(tmp_path):
    given = PointCloud(np.zeros((1, 3)), {"rgb": np.zeros((1, 3), np.uint8), "red": np.zeros(1)})
    with pytest.raises(ValueError, match="distinct columns"):
        write(tmp_path / "a.ply", given)
