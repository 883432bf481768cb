"""PCD against Open3D, and LZF against a plain encoder."""

import numpy as np
import pytest

from sparseconv.io.errors import FileFormatError
from sparseconv.io.lzf import decompress
from sparseconv.io.point_cloud import PointCloud
from sparseconv.io.registry import read, write


def header(fields="x y z", size="4 4 4", kind="F F F", count="1 1 1", points=2, data="ascii"):
    return (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {fields}\nSIZE {size}\nTYPE {kind}\nCOUNT {count}\n"
        f"WIDTH {points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {data}\n"
    )


def save(tmp_path, text, tail=b""):
    path = tmp_path / "a.pcd"
    path.write_bytes(text.encode() + tail)
    return path


def literal_lzf(data):
    """LZF without a single copy."""
    pieces = (data[k : k + 32] for k in range(0, len(data), 32))
    return b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)


@pytest.mark.parametrize("mode", ["ascii", "binary", "binary_compressed"])
def test_agrees_with_open3d(tmp_path, mode):
    o3d = pytest.importorskip("open3d")
    rng = np.random.default_rng(0)
    cloud = o3d.t.geometry.PointCloud()
    parts = {
        "positions": rng.normal(size=(500, 3)).astype(np.float32),
        "normals": rng.normal(size=(500, 3)).astype(np.float32),
        "colors": rng.integers(0, 256, (500, 3), dtype=np.uint8),
        "label": rng.integers(0, 5, (500, 1), dtype=np.int32),
    }
    for name, values in parts.items():
        cloud.point[name] = o3d.core.Tensor.from_numpy(values)
    path = str(tmp_path / "a.pcd")
    options = {"write_ascii": mode == "ascii", "compressed": mode == "binary_compressed"}
    assert o3d.t.io.write_point_cloud(path, cloud, **options)
    ours = read(path)
    tolerance = 1e-6 if mode == "ascii" else 0
    np.testing.assert_allclose(ours.xyz, parts["positions"], rtol=tolerance)
    np.testing.assert_allclose(ours.attributes["normal"], parts["normals"], rtol=tolerance)
    assert np.array_equal(ours.attributes["rgb"], parts["colors"])
    assert np.array_equal(ours.attributes["label"], parts["label"][:, 0])


def test_open3d_reads_what_we_write(tmp_path):
    o3d = pytest.importorskip("open3d")
    rng = np.random.default_rng(0)
    given = PointCloud(
        rng.normal(size=(50, 3)),
        {
            "rgb": rng.integers(0, 256, (50, 3), dtype=np.uint8),
            "normal": rng.normal(size=(50, 3)),
            "label": np.arange(50, dtype=np.int32),
        },
    )
    write(tmp_path / "a.pcd", given)
    back = PointCloud.from_open3d(o3d.t.io.read_point_cloud(str(tmp_path / "a.pcd")))
    assert np.array_equal(back.xyz, given.xyz)
    for name in given.attributes:
        assert np.array_equal(back.attributes[name], given.attributes[name]), name


@pytest.mark.parametrize("field", ["rgb", "rgba"])
@pytest.mark.parametrize("kind", ["U", "F"])
def test_packed_colours_of_both_kinds(tmp_path, field, kind):
    rows = np.zeros(2, "f4,f4,f4,u4")
    rows["f3"] = 0x00102030, 0x7F0A0B0C
    text = header(f"x y z {field}", "4 4 4 4", f"F F F {kind}", "1 1 1 1", data="binary")
    path = save(tmp_path, text, rows.tobytes())
    cloud = read(path)
    assert cloud.attributes["rgb"].tolist() == [[16, 32, 48], [10, 11, 12]]
    assert cloud.attributes["alpha"].tolist() == [0, 127]
    write(tmp_path / "b.pcd", cloud)
    again = read(tmp_path / "b.pcd")
    assert np.array_equal(again.attributes["rgb"], cloud.attributes["rgb"])
    assert np.array_equal(again.attributes["alpha"], cloud.attributes["alpha"])


def test_packed_colours_in_ascii(tmp_path):
    packed = np.array([0x102030, 0x0A0B0C], np.uint32)
    floats = [repr(float(v)) for v in packed.view(np.float32)]
    text = header("x y z rgb", "4 4 4 4", "F F F F", "1 1 1 1")
    cloud = read(save(tmp_path, text + f"0 0 0 {floats[0]}\n1 1 1 {floats[1]}\n"))
    assert cloud.attributes["rgb"].tolist() == [[16, 32, 48], [10, 11, 12]]


def test_many_values_per_field_upper_case_and_padding(tmp_path):
    text = header(
        "X _ Y Z Intensity fpfh", "8 1 8 8 2 4", "F U F F U F", "1 3 1 1 1 4", data="binary"
    )
    rows = np.zeros(2, "f8,3u1,f8,f8,u2,4f4")
    rows["f0"], rows["f4"] = [6e5, 7e5], [9, 65535]
    rows["f5"] = np.arange(8).reshape(2, 4)
    cloud = read(save(tmp_path, text, rows.tobytes()))
    assert cloud.xyz[:, 0].tolist() == [6e5, 7e5]
    assert list(cloud.attributes) == ["intensity", "fpfh"]
    assert cloud.attributes["intensity"].tolist() == [9, 65535]
    assert cloud.attributes["fpfh"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_organised_cloud_keeps_its_shape_and_nan(tmp_path):
    xyz = np.arange(18, dtype=np.float32).reshape(6, 3)
    xyz[2] = np.nan
    text = header(points=6, data="binary").replace("WIDTH 6\nHEIGHT 1", "WIDTH 3\nHEIGHT 2")
    cloud = read(save(tmp_path, text, xyz.tobytes()))
    assert np.array_equal(cloud.xyz, xyz, equal_nan=True)
    write(tmp_path / "b.pcd", cloud)
    assert b"WIDTH 3\nHEIGHT 2\n" in (tmp_path / "b.pcd").read_bytes()
    write(tmp_path / "b.pcd", cloud.select([0, 1]))
    assert b"WIDTH 2\nHEIGHT 1\n" in (tmp_path / "b.pcd").read_bytes()


@pytest.mark.parametrize("separator", [",", "\t", "  "])
def test_ascii_separators(tmp_path, separator):
    rows = separator.join(["289814.15", "4320978.61", "170.76"]) + "\n"
    cloud = read(save(tmp_path, header() + rows * 2))
    assert cloud.xyz[1].tolist() == [289814.15, 4320978.61, 170.76]


def test_binary_compressed(tmp_path):
    xyz = np.arange(6, dtype="<f4")
    packed = literal_lzf(xyz.tobytes())
    sizes = np.array([len(packed), 24], "<u4").tobytes()
    path = save(tmp_path, header(data="binary_compressed"), sizes + packed)
    assert read(path).xyz.tolist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (b"\x00a\x20\x00", b"aaaa"),
        (b"\x01ab\x40\x01", b"abababab"[:6]),
        (b"\x02abc\xe0\x05\x02", b"abc" + (b"abc" * 5)[:14]),
        (b"", b""),
    ],
)
def test_lzf_copies(packed, plain):
    assert decompress(packed, len(plain)) == plain


@pytest.mark.parametrize(
    "packed", [b"\x05ab", b"\x20\x00", b"\x00a\x20", b"\x00a\xe0\x01", b"\x00a"]
)
def test_lzf_refuses_what_does_not_decode(packed):
    with pytest.raises(ValueError):
        decompress(packed, 4)


ROWS = "0 0 0\n1 1 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n4 5 6\n", "a PCD header line"),
        (header().split("DATA")[0], "found the end of the file"),
        (header() + "0 0 0\n", "2 rows after the header, found 1"),
        (header() + ROWS + "2 2 2\n", "2 rows after the header, found 3"),
        (header() + "0 0 0\n1 1 x\n", "2 rows of 3 numbers"),
        (header(fields="x y x") + ROWS, "distinct names"),
        (header(fields="x y w") + ROWS, "columns x, y and z"),
        (header(size="4 4") + ROWS, "3 whole numbers in the header line SIZE"),
        (header(size="4 4 3") + ROWS, "a type of 1, 2, 4 or 8 bytes for field 'z'"),
        (header(kind="F F D") + ROWS, "for field 'z'"),
        (header(count="1 1 0") + ROWS, "COUNT at least 1"),
        (header(count="1 1 99999999999") + ROWS, "fits into the file"),
        (header().replace("POINTS 2", "POINTS 3") + ROWS, "POINTS 2"),
        (header(data="binary_gz") + ROWS, "DATA ascii, binary"),
        (header(points=350_000_000_000, data="binary") + ROWS, "350000000000 points"),
        (header(data="binary") + "x" * 23, "2 points of 12 bytes after the header, found 23"),
        (header(data="binary") + "x" * 36, "2 points of 12 bytes after the header, found 36"),
        (header(data="binary_compressed") + "x" * 3, "compressed data for 24 bytes"),
        (header(data="binary_compressed") + "\x03\0\0\0\x18\0\0\0abc", "LZF data for 24 bytes"),
    ],
)
def test_malformed_files_are_refused(tmp_path, text, message):
    with pytest.raises(FileFormatError, match=message):
        read(save(tmp_path, text))
