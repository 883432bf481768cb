"""PointCloud: validation, selection, colours, Open3D."""

import numpy as np
import pytest

from sparseconv.io.point_cloud import PointCloud, quantise_colours


def cloud(count=6):
    rng = np.random.default_rng(5)
    return PointCloud(
        rng.normal(size=(count, 3)) + np.array([4e5, 5e6, 0]),
        {
            "rgb": rng.integers(0, 256, (count, 3), dtype=np.uint8),
            "normal": rng.normal(size=(count, 3)).astype(np.float32),
            "label": np.arange(count, dtype=np.int32),
            "time": np.arange(count, dtype=np.int64) + 2**60,
            "shape": rng.normal(size=(count, 4)),
            "ring": np.arange(count, dtype=np.uint16),
        },
        {"unit": "metre"},
    )


@pytest.mark.parametrize(
    ("xyz", "attributes", "message"),
    [
        (np.zeros((4, 2)), {}, r"xyz: expected real numbers \[N, 3\], found float64 \[4, 2\]"),
        (np.zeros((4, 3), complex), {}, "xyz: expected real numbers"),
        (np.zeros((4, 3)), {"label": np.zeros(3, int)}, "attribute 'label': expected numbers"),
        (np.zeros((4, 3)), {"rgb": np.zeros((4, 3))}, "attribute 'rgb': expected uint8 or uint16"),
        (np.zeros((4, 3)), {"normal": np.zeros(4)}, "attribute 'normal': expected floating"),
        (np.zeros((4, 3)), {"label": np.zeros(4)}, "attribute 'label': expected integers"),
        (np.zeros((4, 3)), {"name": np.array(list("abcd"))}, "attribute 'name': expected numbers"),
        (np.zeros((4, 3)), {"wide": np.zeros((4, 0))}, "attribute 'wide': expected numbers"),
        (np.zeros((4, 3)), {"": np.zeros(4)}, "attributes: expected names"),
    ],
)
def test_bad_parts_are_refused(xyz, attributes, message):
    with pytest.raises(ValueError, match=message):
        PointCloud(xyz, attributes)


def test_positions_become_float64_and_empty_is_allowed():
    assert PointCloud(np.ones((2, 3), np.float32)).xyz.dtype == np.float64
    assert len(PointCloud([])) == 0 and PointCloud([]).xyz.shape == (0, 3)


def test_parts_cannot_be_exchanged_in_place():
    with pytest.raises(AttributeError):
        cloud().xyz = np.zeros((6, 3))


def test_select_takes_masks_and_rows_in_order():
    given = cloud()
    rows = given.select([4, 1, 1])
    assert rows.attributes["label"].tolist() == [4, 1, 1]
    mask = given.attributes["label"] > 3
    assert np.array_equal(given.select(mask).xyz, given.xyz[mask])
    assert given.select(mask).meta == {"unit": "metre"}
    assert len(given.select([])) == 0


@pytest.mark.parametrize("rows", [np.array([True, False]), np.array([0.5]), np.zeros((2, 2), int)])
def test_select_refuses_what_names_no_rows(rows):
    with pytest.raises(ValueError, match="rows: expected"):
        cloud().select(rows)


def test_with_attributes_keeps_order():
    given = cloud().with_attributes(label=np.zeros(6, np.int32), confidence=np.ones(6, np.float32))
    assert list(given.attributes) == [*cloud().attributes, "confidence"]
    assert not given.attributes["label"].any()


def test_unit_rgb_recognises_eight_bits_in_sixteen():
    low = PointCloud(np.zeros((1, 3)), {"rgb": np.array([[255, 0, 51]], np.uint16)})
    high = PointCloud(np.zeros((1, 3)), {"rgb": np.array([[65535, 0, 13107]], np.uint16)})
    floats = {name: np.array([v]) for name, v in (("red", 1.0), ("green", 0.0), ("blue", 0.2))}
    for given in (low, high, PointCloud(np.zeros((1, 3)), floats)):
        np.testing.assert_allclose(given.unit_rgb(), [[1, 0, 0.2]], atol=1e-6)
    assert PointCloud(np.zeros((1, 3))).unit_rgb() is None


def test_quantise_colours_is_exact_for_both_depths():
    eight = np.arange(256).repeat(3).reshape(-1, 3)
    sixteen = np.arange(65536, dtype=np.uint16)[:65535].reshape(-1, 3)
    assert np.array_equal(quantise_colours(eight / 255), eight.astype(np.uint8))
    assert np.array_equal(quantise_colours((eight / 255).astype(np.float32)), eight)
    assert np.array_equal(quantise_colours(sixteen / 65535), sixteen)


def test_tensor_open3d_round_trip_keeps_everything():
    pytest.importorskip("open3d")
    given = cloud()
    back = PointCloud.from_open3d(given.to_open3d())
    assert np.array_equal(back.xyz, given.xyz)
    assert set(back.attributes) == set(given.attributes)
    for name, values in given.attributes.items():
        assert back.attributes[name].dtype == values.dtype, name
        assert np.array_equal(back.attributes[name], values), name


def test_legacy_open3d_round_trip_keeps_positions_colours_normals():
    pytest.importorskip("open3d")
    given = cloud()
    back = PointCloud.from_open3d(given.to_open3d(legacy=True))
    assert np.array_equal(back.xyz, given.xyz)
    assert np.array_equal(back.attributes["rgb"], given.attributes["rgb"])
    assert np.array_equal(back.attributes["normal"], given.attributes["normal"])


def test_sixteen_bit_colours_survive_open3d():
    pytest.importorskip("open3d")
    rgb = np.array([[1, 2, 65535], [256, 3000, 17]], np.uint16)
    given = PointCloud(np.zeros((2, 3)), {"rgb": rgb})
    assert np.array_equal(PointCloud.from_open3d(given.to_open3d()).attributes["rgb"], rgb)


def test_empty_cloud_through_open3d():
    pytest.importorskip("open3d")
    for legacy in (False, True):
        assert len(PointCloud.from_open3d(PointCloud([]).to_open3d(legacy=legacy))) == 0


def test_from_open3d_refuses_others():
    with pytest.raises(TypeError, match="Open3D point cloud"):
        PointCloud.from_open3d([[0, 0, 0]])
