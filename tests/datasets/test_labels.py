import numpy as np
import pytest

from sparseconv.datasets.labels import (
    IGNORE,
    SEMANTICKITTI_NAMES,
    STREETS,
    TABLES,
    nuscenes_to_streets,
    remap,
    semantickitti_to_streets,
)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_has_one_colour_per_class_and_no_colour_twice(table):
    assert len(table.names) == len(table.palette) == len(set(table.palette)) == len(table)
    assert len(set(table.names)) == len(table) < table.ignore


def test_an_unknown_class_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="road, sidewalk"):
        STREETS.index("sea")


def test_colours_of_unknown_labels_are_grey():
    rgb = STREETS.colours(np.array([0, IGNORE, -1]))
    assert rgb.dtype == np.uint8
    assert tuple(rgb[0]) == STREETS.palette[0] and len(set(rgb[1])) == 1
    assert (rgb[1] == rgb[2]).all()


def test_foreign_ids_map_to_classes_of_the_same_meaning():
    assert set(semantickitti_to_streets) < set(SEMANTICKITTI_NAMES)
    for raw, kind in semantickitti_to_streets.items():
        moving = f"moving-{SEMANTICKITTI_NAMES[raw]}"
        twin = [i for i, name in SEMANTICKITTI_NAMES.items() if name == moving]
        assert all(semantickitti_to_streets[i] == kind for i in twin)
        assert 0 <= kind < len(STREETS)
    assert STREETS.names[semantickitti_to_streets[40]] == "road"
    assert STREETS.names[semantickitti_to_streets[252]] == "vehicle"
    assert STREETS.names[nuscenes_to_streets[24]] == "road"
    assert set(nuscenes_to_streets) <= set(range(32))


def test_remap_ignores_what_the_table_lacks():
    out = remap(np.array([40, 99, 40, 7], np.uint32), {40: 0, 99: 3})
    assert out.dtype == np.int32 and out.tolist() == [0, 3, 0, IGNORE]
    assert remap(np.zeros(0, np.uint32), {}).shape == (0,)
