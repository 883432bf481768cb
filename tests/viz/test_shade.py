import numpy as np

from sparseconv.viz.shade import shade


def test_only_the_foot_of_a_step_is_darkened():
    image = np.full((20, 30, 3), 200, np.uint8)
    depth = np.full((20, 30), 5.0)
    depth[:, 15:] = 6.0
    lit = shade(image, depth, reach=2)
    assert (lit[:, :15] == 200).all()
    assert (lit[2:-2, 15:17] < 150).all()
    assert (lit[:, 17:] == 200).all()


def test_background_stays_and_casts_nothing():
    image = np.full((20, 30, 3), 200, np.uint8)
    depth = np.full((20, 30), np.inf)
    depth[5:15, 5:25] = 3.0
    assert (shade(image, depth) == 200).all()


def test_a_slope_is_not_darkened():
    image = np.full((20, 30, 3), 200, np.uint8)
    depth = np.exp2(np.linspace(1, 3, 30))[None].repeat(20, axis=0)
    assert (shade(image, depth)[:, 2:-2] == 200).all()
