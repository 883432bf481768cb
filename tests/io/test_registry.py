"""Suffixes, refusals, and files that appear whole or not at all."""

import os
import subprocess
import sys

import numpy as np
import pytest

from sparseconv.io import registry
from sparseconv.io.errors import FileFormatError
from sparseconv.io.point_cloud import PointCloud

CLOUD = PointCloud(np.arange(12.0).reshape(4, 3), {"label": np.arange(4, dtype=np.int32)})


def test_every_promised_suffix_is_there():
    promised = {
        ".ply",
        ".pcd",
        ".xyz",
        ".pts",
        ".las",
        ".laz",
        ".bin",
        ".npy",
        ".npz",
        ".off",
        ".obj",
    }
    assert promised <= set(registry.readable_suffixes())
    assert promised <= set(registry.writable_suffixes())


@pytest.mark.parametrize("suffix", registry.readable_suffixes())
def test_missing_folder_and_empty_file_are_named(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    with pytest.raises(FileNotFoundError, match="expected an existing file"):
        registry.read(path)
    path.write_bytes(b"")
    with pytest.raises(FileFormatError, match=rf"scan{suffix}: .* empty file"):
        registry.read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError, match="found a folder"):
        registry.read(path)
    if suffix in registry.writable_suffixes():
        with pytest.raises(IsADirectoryError, match="found a folder"):
            registry.write(path, CLOUD)


def test_unknown_suffix_is_refused_on_both_sides(tmp_path):
    path = tmp_path / "scan.e57"
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"expected a suffix of \.ply .*found '\.e57'"):
        registry.read(path)
    with pytest.raises(ValueError, match=r"expected a suffix of \.ply"):
        registry.write(path, CLOUD)


def test_read_only_formats_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="expected a suffix of"):
        registry.write(tmp_path / "scan.ptx", CLOUD)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "scan.ply")
    with pytest.raises(FileFormatError, match="regular file"):
        registry.read(tmp_path / "scan.ply")


def test_missing_output_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="existing folder"):
        registry.check_writable(tmp_path / "no" / "scan.ply")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_unwritable_output_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="writable folder"):
        registry.write(tmp_path / "scan.ply", CLOUD)
    tmp_path.chmod(0o700)


def test_unwritable_folder_is_asked_about(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="writable folder"):
        registry.check_writable(tmp_path / "scan.ply")


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failure):
    path = tmp_path / "scan.ply"
    registry.write(path, CLOUD)
    before = path.read_bytes()

    def write(file, path, cloud):
        file.write(b"half")
        raise failure

    monkeypatch.setitem(registry.FORMATS, ".ply", registry.Format(None, write))
    with pytest.raises(type(failure)):
        registry.write(path, CLOUD.select([0]))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["scan.ply"]


def test_a_link_is_followed_and_rights_are_kept(tmp_path):
    target, link = tmp_path / "real.ply", tmp_path / "link.ply"
    registry.write(target, CLOUD)
    target.chmod(0o640)
    link.symlink_to(target)
    registry.write(link, CLOUD.select([1, 2]))
    assert link.is_symlink() and len(registry.read(target)) == 2
    assert target.stat().st_mode & 0o777 == 0o640


def test_unexpected_parser_errors_become_ours(tmp_path, monkeypatch):
    path = tmp_path / "scan.ply"
    path.write_bytes(b"ply")

    def read(path):
        raise KeyError("vertex")

    monkeypatch.setitem(registry.FORMATS, ".ply", registry.Format(read))
    with pytest.raises(FileFormatError, match=r"well-formed \.ply file, found KeyError"):
        registry.read(path)


def test_options_of_other_formats_are_refused(tmp_path):
    path = tmp_path / "scan.ply"
    registry.write(path, CLOUD)
    with pytest.raises(ValueError, match=r"columns: expected an option of \.ply"):
        registry.read(path, columns=4)


def test_source_is_recorded(tmp_path):
    registry.write(tmp_path / "scan.npz", CLOUD)
    assert registry.read(tmp_path / "scan.npz").meta["source"] == str(tmp_path / "scan.npz")


def test_upper_case_suffix(tmp_path):
    registry.write(tmp_path / "SCAN.PLY", CLOUD)
    assert len(registry.read(tmp_path / "SCAN.PLY")) == 4


def test_importing_io_stays_light():
    code = (
        "import sys, sparseconv.io; "
        "print([m for m in ('open3d', 'laspy', 'plyfile', 'lazrs') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
