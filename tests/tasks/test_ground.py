"""Height above floor and ground."""

import numpy as np
import pytest

from sparseconv.tasks.ground import height_above_ground


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_a_level_floor_is_found_below_furniture_and_above_stray_points(rng):
    floor = np.c_[rng.uniform(0, 4, (4000, 2)), rng.normal(1.2, 0.005, 4000)]
    table = np.c_[rng.uniform(1, 2, (500, 2)), np.full(500, 1.95)]
    stray = np.array([[2.0, 2.0, 0.3]])
    height = height_above_ground(np.concatenate([floor, table, stray]), 0.0)
    assert np.abs(height[:4000]).max() < 0.12
    assert np.abs(height[4000:4500] - 0.75).max() < 0.12


def test_the_ground_of_a_slope_is_found_under_a_roof(rng):
    slope = rng.uniform(-30, 30, (40_000, 2))
    ground = np.c_[slope, 0.08 * slope[:, 0] + rng.normal(0, 0.02, len(slope))]
    open_ground = ground[(np.abs(ground[:, :2]) > 6).any(1)]
    roof = rng.uniform(-6, 6, (3000, 2))
    roof = np.c_[roof, 0.08 * roof[:, 0] + 5.0]
    height = height_above_ground(np.concatenate([open_ground, roof]), 0.2)
    assert np.abs(np.median(height[: len(open_ground)])) < 0.1
    assert np.percentile(np.abs(height[: len(open_ground)]), 98) < 0.3
    assert height[len(open_ground) :].min() > 3.0


def test_a_small_slope_tells_a_pavement_from_the_road(rng):
    road = np.c_[rng.uniform(-20, 20, (8000, 1)), rng.uniform(-4, 4, (8000, 1)), np.zeros(8000)]
    walk = road + np.array([0, 8.0, 0.15])
    height = height_above_ground(np.concatenate([road, walk]), 0.01)
    assert np.median(height[8000:]) - np.median(height[:8000]) > 0.05


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_few_points(slope):
    assert height_above_ground(np.zeros((0, 3)), slope).shape == (0,)
    assert np.isfinite(height_above_ground(np.array([[1.0, 2.0, 3.0]]), slope)).all()
    assert np.isfinite(height_above_ground(np.eye(3) * 1e6, slope)).all()
