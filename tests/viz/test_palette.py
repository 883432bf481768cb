from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

from sparseconv.datasets.labels import ROOMS, STREETS
from sparseconv.viz.palette import RAMPS, UNKNOWN, as_classes, label_rgb, ramp_rgb

# Vienot, Brettel, Mollon 1999, on linear rgb: what red-green blind eyes see
DEUTERANOPE = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
PROTANOPE = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(rgb, eyes):
    linear = (np.asarray(rgb) / 255.0) ** 2.2
    xyz = TO_XYZ @ np.clip(eyes @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", [np.eye(3), DEUTERANOPE, PROTANOPE], ids=["all", "deuter", "prot"])
@pytest.mark.parametrize("table", [ROOMS, STREETS], ids=lambda table: table.name)
def test_classes_of_a_scene_are_told_apart_by_all_eyes(table, eyes):
    classes = as_classes(table.names)
    for a, b in combinations(range(len(classes.names)), 2):
        difference = np.linalg.norm(lab(classes.colours[a], eyes) - lab(classes.colours[b], eyes))
        # a difference of 2.3 is just noticeable side by side
        assert difference > 9, (classes.names[a], classes.names[b], difference)


def test_labels_outside_the_table_are_grey():
    classes = as_classes(["floor", "wall"])
    rgb = label_rgb(np.array([0, 1, 2, -1, 255]), classes)
    assert rgb[:2].tolist() == classes.colours.tolist()
    assert (rgb[2:] == UNKNOWN).all()


def test_given_colours_are_kept_in_every_notation():
    for colours in ([(255, 0, 51)], ["#ff0033"], np.array([[1.0, 0.0, 0.2]])):
        classes = as_classes(SimpleNamespace(names=("thing",), colours=colours))
        assert classes.colours.tolist() == [[255, 0, 51]]


def test_a_table_of_labels_has_names_of_its_own_and_colours_of_the_palette():
    assert as_classes(ROOMS).colours.tolist() == as_classes(list(ROOMS.names)).colours.tolist()


def test_unnamed_classes_are_numbered():
    assert as_classes(None, np.array([0, 2])).names == ("class 0", "class 1", "class 2")
    assert as_classes(None, np.array([], dtype=np.int32)).names == ()


def test_refusals_name_the_argument():
    with pytest.raises(TypeError, match="classes: expected a sequence of names, found one string"):
        as_classes("floor")
    with pytest.raises(ValueError, match=r"classes.colours: expected 2 rows, found 1"):
        as_classes(SimpleNamespace(names=("a", "b"), colours=[(0, 0, 0)]))


def test_ramp_runs_from_its_first_to_its_last_colour():
    rgb = ramp_rgb(np.array([-5.0, 0.0, 2.0, 9.0, np.nan]), "height", 0.0, 2.0)
    assert rgb[0].tolist() == rgb[1].tolist() == list(RAMPS["height"][0])
    assert rgb[2].tolist() == rgb[3].tolist() == [253, 231, 37]
    assert rgb[4].tolist() == list(UNKNOWN)


def test_a_flat_ramp_has_one_colour():
    assert len(np.unique(ramp_rgb(np.full(5, 3.0), "height", 3.0, 3.0), axis=0)) == 1
