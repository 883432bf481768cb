import numpy as np
import pytest

from sparseconv.datasets.labels import STREETS
from sparseconv.datasets.procedural.street import generate_street

SEEDS = range(700, 716)


@pytest.fixture(scope="module")
def scans():
    return [generate_street(seed, beams=64) for seed in SEEDS]


def test_same_seed_same_scan_bit_for_bit():
    one, two = generate_street(3), generate_street(3)
    assert one.xyz.tobytes() == two.xyz.tobytes()
    for name in ("intensity", "label"):
        assert one.attributes[name].tobytes() == two.attributes[name].tobytes()


def test_every_class_occurs(scans):
    label = np.concatenate([scan.attributes["label"] for scan in scans])
    share = np.bincount(label, minlength=len(STREETS)) / len(label)
    assert label.dtype == np.int32 and label.max() < len(STREETS)
    assert share.min() > 0.0005
    assert 0.2 < share[STREETS.index("road")] < 0.5


def test_points_are_within_the_reach_of_the_sensor(scans):
    for scan in scans:
        away = np.linalg.norm(scan.xyz, axis=1)
        assert away.min() > 1.9 and away.max() < 80.1
        elevation = np.degrees(np.arcsin(scan.xyz[:, 2] / away))
        assert elevation.max() < 4 and elevation.min() > -26


def test_a_turn_has_the_points_of_a_64_beam_sensor(scans):
    for scan in scans:
        assert 60_000 < len(scan) < 64 * 2170
    assert np.mean([len(scan) for scan in scans]) > 100_000


def test_road_lies_under_the_sensor_and_curbs_above_it(scans):
    step = []
    for scan in scans:
        label, z = scan.attributes["label"], scan.xyz[:, 2]
        near = np.hypot(*scan.xyz[:, :2].T) < 8
        road = z[near & (label == STREETS.index("road"))]
        walk = z[near & (label == STREETS.index("sidewalk"))]
        assert -2.3 < np.median(road) < -1.2
        if len(walk) > 500:
            step.append(np.median(walk) - np.median(road))
    assert 0.02 < np.mean(step) < 0.25


def test_vehicles_have_the_height_of_vehicles(scans):
    tall = []
    for scan in scans:
        label = scan.attributes["label"]
        ground = np.median(scan.xyz[label == STREETS.index("road"), 2])
        vehicle = scan.xyz[label == STREETS.index("vehicle"), 2] - ground
        tall.append(np.median(vehicle) if len(vehicle) else 0.8)
    assert 0.4 < np.mean(tall) < 1.6


def test_intensity_is_between_zero_and_one(scans):
    for scan in scans:
        shine = scan.attributes["intensity"]
        assert shine.dtype == np.float32 and shine.min() >= 0 and shine.max() <= 1


def test_32_beams_have_rows_farther_apart():
    scan = generate_street(5, beams=32)
    elevation = np.degrees(np.arcsin(scan.xyz[:, 2] / np.linalg.norm(scan.xyz, axis=1)))
    assert len(scan) < 32 * 1085 + 1
    assert elevation.max() > 6 and elevation.min() < -29
