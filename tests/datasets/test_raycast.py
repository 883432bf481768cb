import numpy as np
import pytest

from sparseconv.datasets.procedural.intersect import intersect
from sparseconv.datasets.procedural.raycast import cast
from sparseconv.datasets.procedural.solid import box, ellipsoid, frustum, place, prism, rod, rounded
from sparseconv.datasets.procedural.view import PinholeView, SpinView

SQUARE = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
SHAPES = {
    "box": box((-1, -1, -1), (1, 1, 1), 0),
    "prism": prism(SQUARE, 2.0, 0),
    "rounded": rounded((-1, -1, -1), (1, 1, 1), 0.2, 0),
    "ellipsoid": ellipsoid((0, 0, 0), (1, 1, 1), 0),
    "frustum": frustum((0, 0, -1), 1.0, 1.0, 2.0, 0),
    "rod": rod((0, 0, -1), (0, 0, 1), 1.0, 0),
}


def rays(*directions):
    d = np.array(directions, np.float32).T
    return d / np.linalg.norm(d, axis=0)


def hit(solid, origin, directions):
    with np.errstate(all="ignore"):
        return intersect(solid, np.array(origin, float), directions, np.random.default_rng(0))


@pytest.mark.parametrize("name", SHAPES)
def test_a_ray_through_the_middle_meets_the_near_face(name):
    t, cosine = hit(SHAPES[name], (-5, 0, 0), rays((1, 0, 0), (-1, 0, 0), (0, 1, 0)))
    assert t[0] == pytest.approx(4.0, abs=0.01) and cosine[0] == pytest.approx(1.0, abs=0.01)
    assert np.isinf(t[1:]).all()


@pytest.mark.parametrize("name", SHAPES)
def test_every_hit_is_on_the_surface_after_turning_and_moving(name):
    solid = place([SHAPES[name]], 3.0, -2.0, 0.5, 0.7)[0]
    rng = np.random.default_rng(1)
    directions = rays(*rng.normal(0, 1, (4000, 3)) + np.array([2, -1.3, 0.3]))
    t, _ = hit(solid, (0, 0, 0), directions)
    got = np.isfinite(t)
    assert 20 < got.sum() < 4000
    local = ((directions[:, got] * t[got]).T - solid.centre) @ solid.rotation
    flat, up = np.hypot(local[:, 0], local[:, 1]), np.abs(local[:, 2])
    implicit = {
        "box": np.abs(local).max(1),
        "prism": np.abs(local).max(1),
        "ellipsoid": np.linalg.norm(local, axis=1),
        "frustum": np.maximum(flat, up),
        "rod": np.maximum(flat, up),
        "rounded": 0.8 + np.linalg.norm(np.maximum(np.abs(local) - 0.8, 0), axis=1),
    }[name]
    np.testing.assert_allclose(implicit, 1.0, atol=0.006)


def test_a_cone_is_narrow_at_the_top():
    cone = frustum((0, 0, 0), 1.0, 0.5, 2.0, 0)
    for z, radius in ((0.01, 1.0), (1.0, 0.75), (1.99, 0.5)):
        t, _ = hit(cone, (-5, 0, z), rays((1, 0, 0)))
        assert t[0] == pytest.approx(5 - radius, abs=0.01)


def test_a_hollow_pipe_shows_its_inner_side_from_above():
    pipe = frustum((0, 0, 0), 1.0, 1.0, 2.0, 0, hollow=True)
    t, _ = hit(pipe, (0, 0, 5), rays((0.25, 0, -1), (0, 0, -1)))
    assert t[0] == pytest.approx(4 * np.sqrt(1 + 0.25**2), abs=0.01)
    assert np.isinf(t[1])


def test_leaves_stop_rays_at_exponential_depths():
    crown = box((0, -50, -50), (100, 50, 50), 0, free_path=2.0)
    directions = np.repeat(rays((1, 0, 0)), 20_000, axis=1)
    t, _ = hit(crown, (-1, 0, 0), directions)
    assert (t - 1).mean() == pytest.approx(2.0, rel=0.05)


def test_an_opening_lets_rays_pass():
    def door(x, z):
        return np.where(np.abs(x) < 0.5, np.inf, 0.0)

    wall = box((-2, -0.1, -1), (2, 0.1, 1), 0, surface=door)
    t, _ = hit(wall, (0, -3, 0), rays((0, 1, 0), (1, 3, 0)))
    assert np.isinf(t[0]) and np.isfinite(t[1])


def views():
    yield PinholeView((0.1, 0.2, 0.3), 0.7, -0.2, 0.1, field=1.2, shape=(60, 80))
    yield SpinView(np.radians(np.linspace(3, -25, 32)), 300)


@pytest.mark.parametrize("view", list(views()), ids=["pinhole", "spin"])
def test_windows_lose_no_hit(view):
    rng = np.random.default_rng(5)
    solids = []
    for _ in range(60):
        shape = list(SHAPES.values())[rng.integers(len(SHAPES))]
        solids += place([shape], *rng.uniform(-12, 12, 2), rng.uniform(-3, 1), rng.uniform(-3, 3))
    # a long wall close to the sensor sees no corner of itself nearby
    solids += place([box((-30, 0, -2), (30, 0.2, 3), 0)], 0, 2.5, 0, 0.3)
    away = [np.linalg.norm(s.centre - view.origin) > 2.2 for s in solids]
    solids = [s for s, far in zip(solids, away, strict=True) if far]
    some, everything = view.rays(), view.rays()
    rows, columns = some.distance.shape
    whole = [(s, 0, rows, 0, columns) for s in range(len(solids))]
    cast(some, solids, view.windows(solids, 100.0), rng)
    cast(everything, solids, whole, rng)
    np.testing.assert_array_equal(some.distance, everything.distance)
    assert np.isfinite(everything.distance).mean() > 0.1
    seen = np.isfinite(some.distance)
    np.testing.assert_array_equal(some.owner[seen], everything.owner[seen])
