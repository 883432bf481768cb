"""Real scans, and malformed files from the test suites of other readers: points or a clear error.

The files are not part of the project. `SPARSECONV_REALDATA` names their folder.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from sparseconv.io.errors import FileFormatError
from sparseconv.io.registry import read, write

ROOT = Path(os.environ.get("SPARSECONV_REALDATA", ""))
pytestmark = pytest.mark.skipif(
    not os.environ.get("SPARSECONV_REALDATA"), reason="SPARSECONV_REALDATA is not set"
)
CRASH = "odd/assimp_crash-30d6d0f7c529b3b66b4131700b7a4580cd7082df.ply"
NUSCENES = "nuscenes/n015-2018-07-24-11-22-45+0800__LIDAR_TOP__1532402927647951.pcd.bin"
LAS = ["intensity", "classification", "gps_time"]

# file: points, a row, its coordinates as the file has them, some of the attributes
GOOD = {
    "semantickitti/sequences/00/velodyne/000000.bin": (
        124668,
        0,
        (52.89794, 0.02298974, 1.9979945),
        ["intensity"],
    ),
    "kitti/004139.bin": (123266, 0, (32.374, 0.004, 1.304), ["intensity"]),
    "kitti/000008_camfov.bin": (17238, 2, (21.056, 0.159, 0.921), ["intensity"]),
    NUSCENES: (34688, 2, (-3.47041, -0.43068862, -1.8595628), ["intensity", "ring"]),
    "open3d/fragment.pcd": (
        113662,
        0,
        (1.16796875, 1.01803279, 0.96484375),
        ["rgb", "normal", "curvature"],
    ),
    "open3d/livingroom1_test_fragment_002.ply": (
        112698,
        0,
        (0.7579967345321682, -0.76171875, 1.36328125),
        ["rgb"],
    ),
    "open3d/livingroom1_fragment_000.ply": (
        5028,
        0,
        (2.240234375, -0.345703125, 1.5624419501490545),
        ["normal", "rgb"],
    ),
    "open3d/bunnyData.pts": (30571, 0, (-0.037829, 0.12794, 0.004474), []),
    "open3d/cloud_bin_0.pcd": (3903, 0, (2.8489077, 0.0313906, -1.7471659), ["normal", "rgb"]),
    "open3d/color.ply": (3017, 0, (0.40078124, 0.30074686, 0.41640624), ["rgb", "alpha"]),
    "pcl/bun0.pcd": (397, 1, (-0.0017447, 0.11425, 0.041273002), ["normal", "curvature"]),
    "pcl/five_people.pcd": (307200, 0, (np.nan, np.nan, np.nan), ["rgb", "alpha"]),
    "pcl/milk.pcd": (13704, 0, (-0.13160761, -0.2095429, 0.772), []),
    "pcl/milk_ascii_old.pcd": (13704, 0, (-0.13160761, -0.2095429, 0.77200001), []),
    "pcl/milk_color.pcd": (13704, 0, (-0.13160761, -0.2095429, 0.772), ["rgb"]),
    "pcl/colored_cloud.pcd": (1000, 0, (-0.85505152, -0.63150859, 1.46700001), ["rgb"]),
    "pcl/lamppost.pcd": (1771, 1, (-10.015625, 0, 0.042999268), []),
    "pcl/curve2d.pcd": (51, 1, (0.02, 0.039733864, 0), []),
    "pcl/cube.ply": (24, 0, (-1, -1, -1), []),
    "aerial_laspy/simple.las": (1065, 0, (637012.24, 849028.31, 431.66), [*LAS, "rgb"]),
    "aerial_laspy/simple.laz": (1065, 0, (637012.24, 849028.31, 431.66), [*LAS, "rgb"]),
    "aerial_pdal/1.2-with-color.las": (1065, 0, (637012.24, 849028.31, 431.66), [*LAS, "rgb"]),
    "aerial_pdal/autzen_class.las": (110000, 0, (637177.98, 849393.95, 411.19), [*LAS, "rgb"]),
    "aerial_pdal/autzen_trim.laz": (110000, 0, (637177.98, 849393.95, 411.19), [*LAS, "rgb"]),
    "aerial_pdal/mvk-thin.las": (6280, 0, (2045008.17, 1272222.64, 106.61), LAS),
    "aerial_pdal/sample_c.las": (14408, 0, (674522.0000134, 1206771.7500171, 627.590029297), LAS),
    "aerial_pdal/lone-star.copc.laz": (518862, 0, (515378.7675, 4918365.03475, 2324.30525), LAS),
    "aerial_pdal/autzen.pts": (
        10,
        0,
        (636110.300003, 849345.050003, 512.139999),
        ["intensity", "rgb"],
    ),
    "aerial_pdal/data.xyz": (400, 20, (440750, 3751230, 115), []),
    "objects/ballA.off": (1900, 1, (-0.3358, -4.53536, -3.84291), []),
    "objects/bunny.ply": (8171, 0, (-0.036872, 0.127727, 0.00440925), ["confidence"]),
    "objects/fandisk.obj": (2877, 1, (0.008489, 0.100462, 0.721776), ["normal"]),
    "odd/argoverse_PC_0.ply": (10, 0, (0, 0, 5), ["intensity", "laser_number"]),
    # the first byte of the data is a line feed
    "odd/assimp_cube_binary_starts_with_nl.ply": (8, 0, (5.967534, 0, 0), []),
    # the faces are garbage, the vertices are not
    "odd/assimp_invalid.off": (3, 2, (0.3, 0.4, 0.5), []),
    "odd/assimp_malformed.obj": (8, 7, (0.5, 0.5, 0.5), []),
    "odd/assimp_points.ply": (4, 3, (0, 1, 1), ["rgb", "normal"]),
    # faces stand before the vertices
    "odd/happly_platonic_shelf_ascii.ply": (50, 0, (-3.562626, -0.627972, 0.613591), []),
    "odd/laspy_append-bug.laz": (
        37805,
        0,
        (698011.6, 6259973.14, 96.43),
        [*LAS, "nir", "Deviation", "ExtraBytes"],
    ),
    # 100 bytes: five rows of five
    "odd/lyft_5pts.bin": (5, 4, (52.071224, 6.5071006, 6.4275117), ["intensity", "ring"]),
    "odd/o3d_sample2.pts": (10, 1, (-9.318283, -6.014053, -51.129257), ["intensity"]),
    "odd/o3d_sample_ascii.ply": (7, 3, (0.102492, 8.38004, -0.177522), []),
    # 128 in an int8 column: the column widens
    "odd/o3d_sample_wrong_format.ply": (
        2,
        1,
        (0.7236, -0.52572, -0.447215),
        ["normal", "intensity"],
    ),
    "odd/pcl_complex_ascii.pcd": (1, 0, (-69.234001, -65.460999, 19.173), ["fpfh"]),
    "odd/pcl_v.pcd": (2, 1, (2, 2, 2), ["fpfh"]),
    "odd/pdal_1.0_1.las": (1, 0, (470692.44, 4602888.9, 16), LAS),
    # unscaled integers, as the file has them
    "odd/pdal_1.2-with-color.npy": (1065, 0, (63701224, 84902831, 43166), ["intensity", "rgb"]),
    "odd/pdal_autzen-utm.pcd": (1065, 0, (494428.61, 4877455.58, 131.57), ["intensity", "rgb"]),
    "odd/pdal_crlf_test.txt": (10, 9, (289818.50, 4320980.59, 170.58), ["intensity"]),
    "odd/pdal_issue_2421.ply": (1, 0, (1.23457, 12345.6789, 1234567890.12345), ["i"]),
    "odd/pdal_lots_of_vlr.las": (1, 0, (715001.346, 839349.171, 17.275), LAS),
    "odd/pdal_no-color.ptx": (15, 14, (635795.24, 849310.43, 426.61), ["intensity"]),
    "odd/pdal_prec3.las": (110, 0, (637177.98, 849393.95, 411.19), LAS),
    "odd/pdal_simple_binary.ply": (3, 1, (0, 1, 0), []),
    "odd/pdal_site_56_8.pts": (8, 7, (6728.512429, 35.903329, -14.709473), ["intensity"]),
    # one point lies a degree away from all others: it is in the file
    "odd/pdal_spurious.las": (1065, 0, (-124.0687348, 44.0502429, 131.57), LAS),
    "odd/pdal_test.pts": (19, 18, (-19.501053, -24.533554, -1.533951), ["intensity", "rgb"]),
    # blue is a char with the value 64, alpha 255
    "odd/pdal_text_extradim.ply": (1, 0, (-2.64944, -13.0955, 0.00640115), ["rgb", "omg"]),
    "odd/pdal_utm17_comma.pcd": (10, 9, (289818.50, 4320980.59, 170.58), []),
    "odd/pdal_utm17_tab.pcd": (10, 9, (289818.50, 4320980.59, 170.58), []),
    "odd/pyntcloud_diamond_color.off": (6, 5, (0.5, 0.5, 1), ["rgb", "alpha"]),
    "odd/pyntcloud_has_offsets.las": (
        20,
        0,
        (-44490.84294818, -135781.17522365, 54.58493098),
        ["rgb"],
    ),
    "odd/rply_input.ply": (3, 1, (0, 1, 0), []),
    "odd/trimesh_empty.ply": (0, None, None, []),
    "odd/trimesh_ply_empty_bin.ply": (0, None, None, []),
    # a NaN colour: colours stay floating point
    "odd/trimesh_nancolor.obj": (8, 6, (0.5, 0.5, -0.5), ["red", "green", "blue"]),
    "odd/trimesh_obj_points.obj": (8, 7, (-1, -1, 1), []),
    "odd/trimesh_ply_points_ascii.ply": (8, 7, (1, 1, -1), []),
    "odd/trimesh_points_agisoft.xyz": (
        100,
        0,
        (665187.522077, 5648349.895035, 241.767693),
        ["rgb"],
    ),
    "odd/trimesh_points_cloudcompare.xyz": (
        101,
        0,
        (665187.522077, 5648349.895035, 241.767693),
        ["rgb", "alpha"],
    ),
    "odd/trimesh_points_ascii_with_lists.ply": (5, 4, (-0.0635, 0.0367289, 0.0424662), []),
    "odd/trimesh_points_emptyface.ply": (1024, 0, (-86.01312256, 39.38998413, -32.02719879), []),
}

# file: what the error says was expected and found
BAD = {
    CRASH: "closed by 'end_header', found no such line",
    "odd/pdal_badheader.txt": "a header that names x, y and z, found 'X,Y,X'",
    "odd/pdal_garbage_nVariableLength.las": "found a count of 1069128089 VLRs",
    "odd/pdal_missingheader.pcd": "a PCD header line .* found '289814.15",
    "odd/pdal_no_vertex.obj": "at least one vertex line 'v x y z', found none",
}
LABELS = {"semantickitti/sequences/00/labels/000000.label", "semantickitti/sequences/00/calib.txt"}


@pytest.mark.parametrize("name", GOOD)
def test_right_points(name):
    count, row, xyz, attributes = GOOD[name]
    cloud = read(ROOT / name)
    assert len(cloud) == count
    assert set(attributes) <= set(cloud.attributes)
    if row is not None:
        np.testing.assert_allclose(cloud.xyz[row], xyz, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", BAD)
def test_clear_error(name):
    with pytest.raises(FileFormatError, match=BAD[name]) as caught:
        read(ROOT / name)
    assert name in str(caught.value)


def test_every_file_is_in_a_table():
    present = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()}
    scans = {name for name in present if "/" in name}
    assert scans - LABELS <= set(GOOD) | set(BAD)


def test_nan_points_keep_their_place():
    cloud = read(ROOT / "pcl/five_people.pcd")
    assert np.isnan(cloud.xyz).any(axis=1).sum() == 68125
    assert (cloud.meta["width"], cloud.meta["height"]) == (640, 480)


def test_compressed_and_ascii_milk_agree():
    packed, text = read(ROOT / "pcl/milk.pcd"), read(ROOT / "pcl/milk_ascii_old.pcd")
    assert np.array_equal(packed.xyz.astype(np.float32), text.xyz.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("aerial_pdal/autzen_class.las", "foot"),
        ("aerial_pdal/mvk-thin.las", "us-survey-foot"),
        ("odd/laspy_append-bug.laz", "metre"),
        ("odd/pdal_spurious.las", "degree"),
        ("aerial_laspy/simple.las", None),
    ],
)
def test_units(name, unit):
    assert read(ROOT / name).meta.get("unit") == unit


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("open3d/fragment.pcd", ".pcd"),
        ("open3d/livingroom1_fragment_000.ply", ".ply"),
        ("aerial_laspy/simple.las", ".las"),
        ("odd/laspy_append-bug.laz", ".laz"),
        ("odd/pdal_1.0_1.las", ".las"),
        ("aerial_pdal/sample_c.las", ".laz"),
        ("odd/trimesh_points_agisoft.xyz", ".xyz"),
        ("aerial_pdal/autzen.pts", ".pts"),
        ("odd/pdal_1.2-with-color.npy", ".npy"),
        ("odd/pyntcloud_diamond_color.off", ".off"),
        ("objects/fandisk.obj", ".obj"),
        ("kitti/000008_camfov.bin", ".npz"),
    ],
)
def test_labelled_output_keeps_every_point_and_attribute(tmp_path, name, suffix):
    given = read(ROOT / name)
    label = np.arange(len(given), dtype=np.int32) % 7
    confidence = np.linspace(0, 1, len(given), dtype=np.float32)
    write(tmp_path / f"a{suffix}", given.with_attributes(label=label, confidence=confidence))
    back = read(tmp_path / f"a{suffix}")
    assert np.array_equal(back.xyz, given.xyz)
    for key, values in {**given.attributes, "label": label, "confidence": confidence}.items():
        assert np.array_equal(back.attributes[key], values), key
        assert back.attributes[key].dtype == values.dtype, key
