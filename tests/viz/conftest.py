import numpy as np
import pytest

from sparseconv.io.point_cloud import PointCloud

ROOM_CLASSES = ("floor", "ceiling", "wall", "table")


def sheet(corner, first, second, step=0.05):
    """A grid of points `step` apart on the rectangle with the sides `first` and `second`."""
    sides = [np.linspace(0, 1, int(np.linalg.norm(side) / step) + 1) for side in (first, second)]
    a, b = np.meshgrid(*sides, indexing="ij")
    return np.asarray(corner) + a.reshape(-1, 1) * first + b.reshape(-1, 1) * second


def make_room(width=6.0, depth=4.0, height=2.6):
    x, y, z = np.diag([width, depth, height])
    parts = [
        (sheet([0, 0, 0], x, y), 0),
        (sheet([0, 0, height], x, y), 1),
        (sheet([0, 0, 0], x, z), 2),
        (sheet([0, depth, 0], x, z), 2),
        (sheet([0, 0, 0], y, z), 2),
        (sheet([width, 0, 0], y, z), 2),
        (sheet([2, 1.5, 0.75], [1.6, 0, 0], [0, 0.8, 0]), 3),
    ]
    xyz = np.concatenate([points for points, _ in parts])
    label = np.concatenate([np.full(len(points), c, np.int32) for points, c in parts])
    return PointCloud(xyz, {"label": label})


def make_street(seed=0):
    random = np.random.default_rng(seed)
    reach = random.exponential(12.0, 20000) + 2.0
    angle = random.uniform(0, 2 * np.pi, 20000)
    road = np.stack(
        [reach * np.cos(angle), 0.4 * reach * np.sin(angle), random.normal(-1.7, 0.02, 20000)], 1
    )
    house = sheet([-20, 9, -1.7], [40, 0, 0], [0, 0, 4.0], 0.3)
    return PointCloud(np.concatenate([road, house]))


@pytest.fixture(scope="session")
def room():
    return make_room()


@pytest.fixture(scope="session")
def street():
    return make_street()


@pytest.fixture(scope="session")
def room_classes():
    return ROOM_CLASSES
