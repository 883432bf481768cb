""".npy and .npz: plain, structured, foreign, hostile."""

import io
import zipfile

import numpy as np
import pytest

from sparseconv.io.errors import FileFormatError
from sparseconv.io.registry import read


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f8", "i4", "f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_plain_arrays(tmp_path, dtype, order):
    table = np.arange(15).reshape(5, 3).astype(dtype)
    np.save(tmp_path / "a.npy", np.asarray(table, order=order))
    assert np.array_equal(read(tmp_path / "a.npy").xyz, table)


def test_plain_columns_get_names(tmp_path):
    table = np.column_stack([np.eye(3) * 1.5, np.array([[255, 0, 7]] * 3), [[0.5]] * 3])
    np.save(tmp_path / "a.npy", table)
    cloud = read(tmp_path / "a.npy")
    assert list(cloud.attributes) == ["rgb", "column_6"]
    assert cloud.attributes["rgb"].dtype == np.uint8


def test_structured_fields_keep_names_and_types(tmp_path):
    table = np.zeros(4, [("X", "<f8"), ("Y", ">f8"), ("Z", "<f4"), ("ring", "<u2"), ("d", "f4", 3)])
    table["ring"] = np.arange(4)
    np.save(tmp_path / "a.npy", table)
    cloud = read(tmp_path / "a.npy")
    assert cloud.attributes["ring"].dtype == np.uint16
    assert cloud.attributes["d"].shape == (4, 3)


@pytest.mark.parametrize("name", ["xyz", "points", "positions", "coord"])
def test_foreign_archives(tmp_path, name):
    arrays = {name: np.eye(3), "label": np.arange(3), "pose": np.eye(4)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        cloud = read(tmp_path / "a.npz")
        assert np.array_equal(cloud.xyz, np.eye(3))
        assert cloud.attributes["label"].tolist() == [0, 1, 2]
        assert np.array_equal(cloud.meta["arrays"]["pose"], np.eye(4))


def test_pickles_are_never_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FileFormatError, match="pickled Python objects"):
        read(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", xyz=np.array([[1, 2, None]], dtype=object))
    with pytest.raises(FileFormatError, match="pickled Python objects"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "array", [np.zeros(3), np.zeros((3, 2)), np.zeros((2, 3, 3)), np.array([["a", "b", "c"]])]
)
def test_other_shapes_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(FileFormatError, match=r"\[N, 3 or more\]"):
        read(tmp_path / "a.npy")


def claim(shape):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue() + b"\0" * 24


@pytest.mark.parametrize("shape", [(10**12, 3), (2, 3), (0, 3), (2**40, 2**40)])
def test_a_claimed_shape_must_match_the_bytes(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(claim(shape))
    with pytest.raises(FileFormatError, match="24 bytes after the header"):
        read(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("xyz.npy", claim(shape))
    with pytest.raises(FileFormatError, match="24 bytes after the header"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_other_files_are_refused(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"something else entirely")
    with pytest.raises(FileFormatError):
        read(tmp_path / f"a{suffix}")


def test_an_archive_without_positions(tmp_path):
    np.savez(tmp_path / "a.npz", label=np.arange(3))
    with pytest.raises(FileFormatError, match="columns x, y and z"):
        read(tmp_path / "a.npz")
