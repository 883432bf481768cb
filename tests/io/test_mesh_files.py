"""OFF and OBJ vertices."""

import numpy as np
import pytest

from sparseconv.io.errors import FileFormatError
from sparseconv.io.point_cloud import PointCloud
from sparseconv.io.registry import read, write


def load(tmp_path, text, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text(text)
    return read(path)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("OFF\n2 1 0\n1 2 3\n4 5 6\n3 0 1 1\n", []),
        ("OFF 2 1 0\n1 2 3\n4 5 6\n", []),
        ("OFF2 1 0\n1 2 3\n4 5 6\n", []),
        ("OFF # name\n# more\n2 1 0\n\n1 2 3 # first\n4 5 6\n", []),
        ("COFF\n2 0 0\n1 2 3 255 0 9 255\n4 5 6 1 2 3 255\n", ["rgb", "alpha"]),
        ("COFF\n2 0 0\n1 2 3 1.0 0.0 0.2\n4 5 6 0 0 0\n", ["rgb"]),
        ("NOFF\n2 0 0\n1 2 3 0 0 1\n4 5 6 0 1 0\n", ["normal"]),
        ("CNOFF\n2 0 0\n1 2 3 0 0 1 9 8 7\n4 5 6 0 1 0 6 5 4\n", ["normal", "rgb"]),
        ("STOFF\n2 0 0\n1 2 3 0.1 0.2\n4 5 6 0.3 0.4\n", []),
    ],
)
def test_off_variants(tmp_path, text, names):
    cloud = load(tmp_path, text, ".off")
    assert cloud.xyz.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert list(cloud.attributes) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("OFX\n", "ascii OFF"),
        ("4OFF\n1 0 0\n1 2 3 4\n", "ascii OFF"),
        ("OFF BINARY\n1 0 0\n", "ascii OFF"),
        ("OFF\n2\n", "numbers of vertices"),
        ("OFF\n3 0 0\n1 2 3\n4 5 6\n", "3 vertex lines"),
        ("OFF\n999999999999 0 0\n1 2 3\n", "999999999999 vertex lines"),
        ("OFF\n2 0 0\n1 2 3\n4 5\n", "2 vertex lines"),
        ("OFF\n2 0 0\n1 2 3\n4 5 x\n", "2 vertex lines"),
        ("OFF\n1 0 0\n1 2 3 4 5\n", "vertex lines as OFF has them"),
        ("COFF\n1 0 0\n1 2 3\n", "vertex lines as COFF has them"),
        ("COFF\n1 0 0\n1 2 3 256 0 0\n", "colours of 0 to 255"),
    ],
)
def test_malformed_off(tmp_path, text, message):
    with pytest.raises(FileFormatError, match=message):
        load(tmp_path, text, ".off")


def test_obj_vertices_with_the_rest_around_them(tmp_path):
    text = "# c\r\nmtllib a.mtl\nvt 0 1\nv 1 2 3\r\nvn 0 0 1\nv 4 5 6 # c\nvp 1\nf 1 2 1\n"
    cloud = load(tmp_path, text, ".obj")
    assert cloud.xyz.tolist() == [[1, 2, 3], [4, 5, 6]] and not cloud.attributes


@pytest.mark.parametrize(
    ("faces", "taken"),
    [
        ("", True),
        ("f 1//1 2//2 3//3\n", True),
        ("f 1/9/1 2/8/2 3/7/3\n", True),
        ("f 1//1 2//2 3//1\n", False),
        ("f 1//1 2//2 3//31\n", False),
    ],
)
def test_obj_normals_belong_to_vertices_only_if_every_face_agrees(tmp_path, faces, taken):
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvn 1 0 0\nvn 0 1 0\nvn 0 0 1\n" + faces
    cloud = load(tmp_path, text, ".obj")
    assert ("normal" in cloud.attributes) == taken


def test_obj_colours(tmp_path):
    eight = load(tmp_path, "v 0 0 0 1 0 0.501961\nv 0 0 0 0.2 0.4 0.6\n", ".obj")
    assert eight.attributes["rgb"].tolist() == [[255, 0, 128], [51, 102, 153]]
    fine = load(tmp_path, "v 0 0 0 0.5365 0.9971 0.5398\n", ".obj")
    np.testing.assert_allclose(fine.unit_rgb(), [[0.5365, 0.9971, 0.5398]], atol=1e-5)
    broken = load(tmp_path, "v 0 0 0 0.5 0.5 0.5\nv 0 0 0 nan nan nan\n", ".obj")
    assert list(broken.attributes) == ["red", "green", "blue"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing here\n", "at least one vertex line"),
        ("v 1 2\n", "three or more numbers"),
        ("v 1 2 3\nv 4 5 6 7\n", "same three or more numbers"),
        ("v 1 2 x\n", "three or more numbers"),
        ("v 1 2 3 4 5\n", "3, 4, 6 or 7 numbers"),
    ],
)
def test_malformed_obj(tmp_path, text, message):
    with pytest.raises(FileFormatError, match=message):
        load(tmp_path, text, ".obj")


@pytest.mark.parametrize("suffix", [".off", ".obj"])
def test_open3d_sees_the_same_vertices(tmp_path, suffix):
    o3d = pytest.importorskip("open3d")
    rng = np.random.default_rng(0)
    xyz, rgb = rng.normal(size=(30, 3)), rng.integers(0, 256, (30, 3), dtype=np.uint8)
    label = np.arange(30, dtype=np.int32)
    write(tmp_path / f"a{suffix}", PointCloud(xyz, {"rgb": rgb, "label": label}))
    # open3d drops the vertices of a mesh without a face
    text = (tmp_path / f"a{suffix}").read_text().replace("30 0 0", "30 1 0")
    faces = "3 0 1 2\n" if suffix == ".off" else "".join(f"f {k} 1 2\n" for k in range(1, 31))
    text = text.replace("# sparseconv attr", faces + "# sparseconv attr")
    (tmp_path / f"a{suffix}").write_text(text)
    mesh = o3d.io.read_triangle_mesh(str(tmp_path / f"a{suffix}"))
    np.testing.assert_allclose(np.asarray(mesh.vertices), xyz, atol=1e-6)


@pytest.mark.parametrize("suffix", [".off", ".obj"])
def test_a_lost_comment_is_noticed(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", PointCloud(np.eye(3), {"label": np.arange(3)}))
    lines = (tmp_path / f"a{suffix}").read_text().splitlines()
    with pytest.raises(FileFormatError, match="3 comments"):
        load(tmp_path, "\n".join(lines[:-1]), suffix)
