"""Which model suits a scan."""

import numpy as np

from sparseconv.io.point_cloud import PointCloud
from sparseconv.tasks.choose import choose_model


def spread(metres, count=1000):
    return np.random.default_rng(0).uniform(0, metres, (count, 3))


def test_rooms_for_small_scans_and_streets_for_wide_ones():
    assert choose_model(PointCloud(spread(6)), "a.ply")[0] == "rooms"
    name, reason = choose_model(PointCloud(spread(80)), "a.ply")
    assert name == "streets" and "m" in reason


def test_lidar_files_are_streets():
    assert choose_model(PointCloud(spread(6)), "000000.bin")[0] == "streets"
    ring = {"ring": np.zeros(1000, np.float32)}
    assert choose_model(PointCloud(spread(6), ring), "a.pcd")[0] == "streets"


def test_stray_points_units_and_broken_points_do_not_fool_it():
    xyz = spread(6)
    xyz[3], xyz[4] = 5000.0, np.nan
    assert choose_model(PointCloud(xyz))[0] == "rooms"
    assert choose_model(PointCloud(spread(60), {}, {"unit": "foot"}))[0] == "rooms"
    assert choose_model(PointCloud(np.full((3, 3), np.nan)))[0] == "rooms"
