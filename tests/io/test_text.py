"""Text tables: headers, separators, comments, counts, and names for the nameless."""

import numpy as np
import pytest

from sparseconv.io.errors import FileFormatError
from sparseconv.io.registry import read


def load(tmp_path, text, suffix=".xyz"):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path)


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3\n4 5 6\n",
        "1 2 3\n4 5 6",
        "1\t2\t3\n4\t5\t6\n",
        "  1   2  3 \r\n\r\n 4 5 6\r\n",
        "1 2 3\r4 5 6\r",
        "1,2,3\n4, 5, 6\n",
        "1;2;3\n4;5;6\n",
        "# a scan\n1 2 3\n4 5 6\n",
        "// a scan\n1 2 3\n# middle\n4 5 6 # end\n",
        "2\n1 2 3\n4 5 6\n",
        "x y z\n1 2 3\n4 5 6\n",
        '"X","Y","Z"\n"1","2","3"\n4,5,6\n',
        "//X,Y,Z\n1,2,3\n4,5,6\n",
        "\ufeff1 2 3\n4 5 6\n",
        "1e0 2.0E0 +3\n4. 5 6.000\n",
    ],
)
@pytest.mark.parametrize("suffix", [".xyz", ".txt", ".csv", ".pts"])
def test_one_table_in_many_spellings(tmp_path, text, suffix):
    cloud = load(tmp_path, text, suffix)
    assert cloud.xyz.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert not cloud.attributes


@pytest.mark.parametrize(
    ("suffix", "rows", "names"),
    [
        (".xyz", ["1 2 3 0.5", "1 2 3 0.25"], ["intensity"]),
        (".xyz", ["1 2 3 255 0 17", "1 2 3 9 9 9"], ["rgb"]),
        (".xyz", ["1 2 3 0 0.6 0.8", "1 2 3 0 0 1"], ["normal"]),
        (".xyz", ["1 2 3 0.5 0.6 0.7", "1 2 3 0 0 1"], ["column_3", "column_4", "column_5"]),
        (".xyz", ["1 2 3 255 0 17 0 0.6 0.8"], ["rgb", "normal"]),
        (".xyz", ["1 2 3 0 0.6 0.8 255 0 17"], ["normal", "rgb"]),
        (".xyz", ["1 2 3 17 73 49 255"], ["rgb", "alpha"]),
        (".txt", ["1 2 3 -1840 73 49 255"], ["intensity", "rgb"]),
        (".pts", ["1 2 3 17 73 49 255"], ["intensity", "rgb"]),
        (".pts", ["1 2 3 17"], ["intensity"]),
        (".csv", ["1,2,3,255,0,17,2.5"], ["rgb", "column_6"]),
        (".xyzn", ["1 2 3 0 0.6 0.8"], ["normal"]),
        (".xyzrgb", ["1 2 3 0 0.2 1"], ["rgb"]),
        (".xyzrgb", ["1 2 3 0 0 1"], ["rgb"]),
    ],
)
def test_columns_without_names(tmp_path, suffix, rows, names):
    cloud = load(tmp_path, "\n".join(rows), suffix)
    assert list(cloud.attributes) == names
    assert cloud.xyz[0].tolist() == [1, 2, 3]
    if suffix == ".xyzrgb":
        assert cloud.attributes["rgb"][0].tolist() in ([0, 51, 255], [0, 0, 255])


def test_header_names_give_canonical_attributes_and_types(tmp_path):
    text = "X,Y,Z,Intensity,R,G,B,label,confidence,GpsTime\n" + "1,2,3,7,1,2,3,4,0.5,1.5\n" * 2
    cloud = load(tmp_path, text, ".csv")
    kinds = {name: values.dtype.name for name, values in cloud.attributes.items()}
    assert kinds == {
        "intensity": "int32",
        "rgb": "uint8",
        "label": "int32",
        "confidence": "float32",
        "GpsTime": "float64",
    }


def test_x_y_z_may_stand_anywhere(tmp_path):
    cloud = load(tmp_path, "time z y x\n9 3 2 1\n", ".txt")
    assert cloud.xyz.tolist() == [[1, 2, 3]] and list(cloud.attributes) == ["time"]


def test_utm_coordinates_and_long_integers_are_exact(tmp_path):
    text = "x y z stamp\n665187.522077 5648349.895035 241.767693 1532402927647951123\n"
    cloud = load(tmp_path, text)
    assert cloud.xyz[0].tolist() == [665187.522077, 5648349.895035, 241.767693]
    assert cloud.attributes["stamp"].tolist() == [1532402927647951123]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\n3 4\n", "three or more numbers"),
        ("1 2 3\n4 5\n", "rows of 3 numbers"),
        ("1 2 3\n4 5 6 7\n", "rows of 3 numbers"),
        ("1 2 3\n4 5 six\n", "rows of 3 numbers"),
        ("1,2,,4\n", "expected numbers"),
        ("1,5 2,5 3,5\n", "expected"),
        ("3\n1 2 3\n4 5 6\n", "3 points, as its first lines say, found 2"),
        ("X,Y,X\n1,2,3\n", "names x, y and z"),
        ("x,y,z,X\n1,2,3,4\n", "distinct column names"),
        ("lat,lon,height\n1,2,3\n", "names x, y and z"),
        ("x y z label\n1 2 3\n", "4 columns as in the header"),
        ("C 1 2 3\nO 4 5 6\n", "numbers, or a header"),
        ("# only words\n", "lines of numbers"),
        ("\n\n", "lines of numbers"),
        (b"\x00\x01binary", "a text file"),
        (b"LASF\x00\x00", "a text file"),
        ("ply\nformat ascii 1.0\n", "numbers, or a header"),
    ],
)
@pytest.mark.parametrize("suffix", [".xyz", ".pts"])
def test_malformed_tables_are_refused(tmp_path, text, message, suffix):
    with pytest.raises(FileFormatError, match=message) as caught:
        load(tmp_path, text, suffix)
    assert f"a{suffix}" in str(caught.value)


def test_our_own_file_cut_short_is_noticed(tmp_path):
    from sparseconv.io.point_cloud import PointCloud
    from sparseconv.io.registry import write

    write(tmp_path / "a.xyz", PointCloud(np.eye(3), {"label": np.arange(3)}))
    lines = (tmp_path / "a.xyz").read_text().splitlines(keepends=True)
    with pytest.raises(FileFormatError, match="3 points, as its first lines say, found 2"):
        load(tmp_path, "".join(lines[:-1]))


PTX = "{rows}\n1\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n0 1 0 0\n-1 0 0 0\n0 0 1 0\n100 200 300 1\n"


def test_ptx_applies_each_pose(tmp_path):
    scan = PTX.format(rows=2) + "1 0 0 0.5 1 2 3\n0 2 5 0.25 4 5 6\n"
    cloud = load(tmp_path, scan, ".ptx")
    assert cloud.xyz.tolist() == [[100, 201, 300], [98, 200, 305]]
    assert cloud.attributes["intensity"].tolist() == [0.5, 0.25]
    assert cloud.attributes["rgb"].tolist() == [[1, 2, 3], [4, 5, 6]]
    both = load(tmp_path, scan * 2, ".ptx")
    assert both.attributes["scan"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3 0.5\n",
        PTX.format(rows=2) + "1 0 0 0.5\n",
        PTX.format(rows=10**12) + "1 0 0 0.5\n",
        PTX.format(rows=1) + "1 0 0\n",
        PTX.format(rows="two") + "1 0 0 1\n",
    ],
)
def test_malformed_ptx(tmp_path, text):
    with pytest.raises(FileFormatError, match=r"a\.ptx"):
        load(tmp_path, text, ".ptx")
