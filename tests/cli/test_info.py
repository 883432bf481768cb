import numpy as np
import pytest

from sparseconv.cli.info import extent, field_rows, unit_notes
from sparseconv.cli.main import main
from sparseconv.io.point_cloud import PointCloud
from sparseconv.io.registry import write


def test_points_fields_extent_and_voxels_are_told(scan, cloud, capsys):
    assert main(["info", "scan.ply", "--voxel", "0.5", "--voxel", "5"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("scan.ply: 600 points, ")
    low, high = cloud.xyz[:, 0].min(), cloud.xyz[:, 0].max()
    assert ["x", f"{low:.3f}", f"{high:.3f}", f"{high - low:.3f}"] in [s.split() for s in lines]
    assert any(line.split()[:4] == ["rgb", "uint8", "x", "3"] for line in lines)
    assert any(line.split()[:2] == ["ring", "uint8"] for line in lines)
    sites = len(np.unique(np.floor((cloud.xyz - cloud.xyz.min(0)) / 0.5), axis=0))
    half = next(line.split() for line in lines if line.split()[:1] == ["0.5"])
    assert half[1] == str(sites)
    assert half[2] == f"{600 / sites:.2f}"
    whole = next(line.split() for line in lines if line.split()[:1] == ["5"])
    assert whole[1:4] == ["1", "600.00", "1.00"]


def test_several_sizes_are_shown_by_default(scan, capsys):
    assert main(["info", "scan.ply"]) == 0
    table = capsys.readouterr().out.split("standard net")[1].splitlines()[2:]
    counts = [int(line.split()[1]) for line in table if line.lstrip()[:1].isdigit()]
    assert len(counts) == 4
    assert counts == sorted(counts, reverse=True)


def test_points_without_coordinates_are_counted(scan, cloud, capsys):
    xyz = cloud.xyz.copy()
    xyz[:7, 1] = np.nan
    write("holes.ply", cloud.replace(xyz=xyz))
    assert main(["info", "holes.ply", "--voxel", "0.5"]) == 0
    assert "7 points have NaN or infinite coordinates" in capsys.readouterr().out


def test_a_missing_file_is_one_line(scan, capsys):
    assert main(["info", "gone.ply"]) == 1
    line = "sparseconv info: gone.ply: expected a file, found nothing there; check the path\n"
    assert capsys.readouterr() == ("", line)


def test_the_installation_is_described_without_a_scan(capsys):
    assert main(["info", "--system"]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["backend"] in ("cpu", "reference")
    assert rows["torch"]
    assert ("reason" in rows) == (rows["backend"] == "reference")


def test_without_a_scan_it_is_bad_usage(capsys):
    assert main(["info"]) == 2
    assert capsys.readouterr().err == (
        "sparseconv info: the following arguments are required: scan; see sparseconv info --help\n"
    )


@pytest.mark.parametrize(
    ("offset", "scale", "meta", "note"),
    [
        ([636000, 849000, 400], 1, {}, "map coordinates"),
        ([0, 0, 0], 1, {"unit": "US survey foot"}, "its unit is the US survey foot"),
        ([0, 0, 0], 1000, {}, "perhaps millimetres"),
        ([0, 0, 0], 1, {}, None),
    ],
)
def test_notes_on_the_unit(cloud, offset, scale, meta, note):
    cloud = PointCloud(cloud.xyz * scale + offset, {}, meta)
    low, high, _ = extent(cloud.xyz)
    notes = unit_notes(cloud, low, high)
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]


def test_fields_without_numbers_have_no_range():
    cloud = PointCloud(np.zeros((2, 3)), {"t": np.array([np.nan, np.nan])})
    assert field_rows(cloud) == [("t", "float64", "-", "-")]
    assert field_rows(PointCloud(np.zeros((2, 3)))) == [("none", "", "", "")]
