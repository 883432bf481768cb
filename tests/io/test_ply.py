"""PLY against plyfile, and the shapes of real files."""

import numpy as np
import pytest

from sparseconv.io.errors import FileFormatError
from sparseconv.io.point_cloud import PointCloud
from sparseconv.io.registry import read, write


def save(tmp_path, text, tail=b""):
    path = tmp_path / "a.ply"
    path.write_bytes(text.encode() + tail)
    return path


def header(kind="ascii", rows=2, extra="", after=""):
    return (
        f"ply\nformat {kind} 1.0\nelement vertex {rows}\nproperty float x\nproperty float y\n"
        f"property float z\n{extra}{after}end_header\n"
    )


@pytest.mark.parametrize("order", ["<", ">", "="])
@pytest.mark.parametrize("text", [False, True])
def test_agrees_with_plyfile(tmp_path, order, text):
    plyfile = pytest.importorskip("plyfile")
    kinds = ["f8", "f8", "f8", "u1", "u1", "u1", "i1", "u2", "i4", "u4", "f4"]
    names = ["x", "y", "z", "red", "green", "blue", "a", "b", "c", "d", "quality"]
    rng = np.random.default_rng(0)
    rows = np.zeros(100, list(zip(names, kinds, strict=True)))
    for name, kind in zip(names, kinds, strict=True):
        rows[name] = rng.integers(0, 100, 100) if kind[0] in "iu" else rng.normal(size=100) * 1e6
    faces = np.zeros(7, [("vertex_indices", "i4", (3,))])
    tables = [
        plyfile.PlyElement.describe(faces, "face"),
        plyfile.PlyElement.describe(rows, "vertex"),
    ]
    path = str(tmp_path / "a.ply")
    plyfile.PlyData(tables, text=text, byte_order=order).write(path)
    cloud = read(path)
    for k, axis in enumerate("xyz"):
        np.testing.assert_allclose(cloud.xyz[:, k], rows[axis], rtol=1e-15 if not text else 1e-12)
    assert np.array_equal(cloud.attributes["rgb"][:, 1], rows["green"])
    for name in ("a", "b", "c", "d"):
        assert cloud.attributes[name].dtype == rows[name].dtype
        assert np.array_equal(cloud.attributes[name], rows[name])
    np.testing.assert_allclose(cloud.attributes["quality"], rows["quality"], rtol=1e-6)


def test_plyfile_reads_what_we_write(tmp_path):
    plyfile = pytest.importorskip("plyfile")
    rng = np.random.default_rng(1)
    cloud = PointCloud(
        rng.normal(size=(50, 3)) * 1e6,
        {"rgb": rng.integers(0, 256, (50, 3), dtype=np.uint8), "label": np.arange(50, dtype="i4")},
    )
    write(tmp_path / "a.ply", cloud)
    with open(tmp_path / "a.ply", "rb") as file:
        vertex = plyfile.PlyData.read(file)["vertex"]
        assert np.array_equal(np.stack([vertex[a] for a in "xyz"], 1), cloud.xyz)
        assert np.array_equal(vertex["blue"], cloud.attributes["rgb"][:, 2])
        assert np.array_equal(vertex["label"], cloud.attributes["label"])


def test_float_coordinates_stay_float_where_nothing_is_lost(tmp_path):
    path = save(tmp_path, header("binary_little_endian"), np.arange(6, dtype="<f4").tobytes())
    write(tmp_path / "b.ply", read(path))
    assert b"property float x" in (tmp_path / "b.ply").read_bytes()
    moved = read(path)
    write(tmp_path / "c.ply", moved.replace(xyz=moved.xyz + 1e-9))
    assert b"property double x" in (tmp_path / "c.ply").read_bytes()
    assert np.array_equal(read(tmp_path / "c.ply").xyz, moved.xyz + 1e-9)


def test_ascii_coordinates_keep_their_digits(tmp_path):
    cloud = read(save(tmp_path, header() + "665187.522077 5648349.895035 241.767693\n1 2 3\n"))
    assert cloud.xyz[0].tolist() == [665187.522077, 5648349.895035, 241.767693]


def test_ascii_integers_beyond_their_type_widen(tmp_path):
    extra = "property char a\nproperty uchar b\n"
    cloud = read(save(tmp_path, header(extra=extra) + "0 0 0 128 -1\n1 2 3 4 255\n"))
    assert cloud.attributes["a"].tolist() == [128, 4]
    assert cloud.attributes["b"].tolist() == [-1, 255]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_line_ends(tmp_path, newline, kind):
    text = header(kind).replace("\n", newline)
    xyz = np.array([[10, 13, 2.5], [4, 5, 6]], "<f4")
    tail = xyz.tobytes() if kind != "ascii" else f"10 13 2.5{newline}4 5 6{newline}".encode()
    assert np.array_equal(read(save(tmp_path, text, tail)).xyz, xyz)


def test_data_that_begin_with_a_newline_byte(tmp_path):
    xyz = np.frombuffer(b"\x0a\xf6\xbe\x40" * 6, "<f4").reshape(2, 3)
    cloud = read(save(tmp_path, header("binary_little_endian"), xyz.tobytes()))
    assert np.array_equal(cloud.xyz, xyz)


@pytest.mark.parametrize("lengths", [(2, 2), (1, 3)])
@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_list_properties_of_vertices(tmp_path, lengths, kind):
    extra = "property list uchar short near\nproperty uchar last\n"
    order = ">" if kind == "binary_big_endian" else "<"
    tail = b""
    for row, length in enumerate(lengths):
        if kind == "ascii":
            numbers = [row, row, row, length, *range(length), 7 + row]
            tail += (" ".join(map(str, numbers)) + "\n").encode()
        else:
            tail += np.full(3, row, order + "f4").tobytes() + bytes([length])
            tail += np.arange(length, dtype=order + "i2").tobytes() + bytes([7 + row])
    cloud = read(save(tmp_path, header(kind, extra=extra), tail))
    assert cloud.xyz.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert cloud.attributes["last"].tolist() == [7, 8]
    if lengths == (2, 2):
        assert cloud.attributes["near"].tolist() == [[0, 1], [0, 1]]
    else:
        assert cloud.meta["left_out"] == ["near"]


@pytest.mark.parametrize("sizes", [(3, 3), (3, 4)])
def test_faces_before_the_vertices_are_stepped_over(tmp_path, sizes):
    text = header("binary_little_endian").replace(
        "element vertex", "element face 2\nproperty list uchar int vertex_indices\nelement vertex"
    )
    faces = b"".join(bytes([n]) + np.arange(n, dtype="<i4").tobytes() for n in sizes)
    xyz = np.arange(6, dtype="<f4").reshape(2, 3)
    assert np.array_equal(read(save(tmp_path, text, faces + xyz.tobytes())).xyz, xyz)


def test_comments_are_written_again(tmp_path):
    path = save(tmp_path, header(after="comment scanner 7\nobj_info two\n") + "0 0 0\n1 1 1\n")
    write(tmp_path / "b.ply", read(path))
    assert b"comment scanner 7\nobj_info two\n" in (tmp_path / "b.ply").read_bytes()


BINARY = header("binary_little_endian")
ROWS = "0 0 0\n1 1 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("solid cube\n", "first line 'ply'"),
        ("ply\nformat ascii 1.0\nelement vertex 2\n", "closed by 'end_header'"),
        (header().replace("ascii", "utf8") + ROWS, "a PLY header line"),
        (header().replace("vertex", "point") + ROWS, "one element 'vertex'"),
        (header().replace("float z", "float w") + ROWS, "columns x, y and z"),
        (header().replace("float z", "float y") + ROWS, "distinct properties"),
        (header().replace("float z", "half z") + ROWS, "a PLY header line"),
        (header().replace("vertex 2", "vertex -2") + ROWS, "a PLY header line"),
        (header(rows=10**12) + ROWS, "1000000000000 vertices"),
        (BINARY.replace("vertex 2", "vertex 350000000000"), "350000000000 vertices"),
        (BINARY + "x" * 23, "2 vertices of at least 12 bytes, found 23"),
        (BINARY + "x" * 36, "the end of the file after 2 vertices, found 12 more"),
        (header() + "0.000 0.000 0.000\n", "2 rows of 3 numbers, found 1 rows"),
        (header() + "0.000 0.000 0.000\n1 1\n", "2 rows of 3 numbers"),
        (header() + "0 0 0\n1 1 one\n", "2 rows of 3 numbers"),
        (header() + ROWS + "2 2 2\n", "the end of the file after 2 vertices"),
        (header(extra="property int i\n") + "0 0 0 1\n1 1 1 1.5\n", "integers in column 4"),
    ],
)
def test_malformed_files_are_refused(tmp_path, text, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        read(save(tmp_path, text))
    assert "a.ply" in str(caught.value)
