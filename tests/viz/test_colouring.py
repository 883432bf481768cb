import numpy as np
import pytest

from sparseconv.io.point_cloud import PointCloud
from sparseconv.viz.colouring import colour_points, default_colour
from sparseconv.viz.palette import RAMPS


def test_the_most_telling_colouring_is_the_default(room):
    assert default_colour(room) == "label"
    assert default_colour(PointCloud(room.xyz)) == "height"
    rgb = np.zeros((len(room), 3), np.uint8)
    assert default_colour(PointCloud(room.xyz, {"rgb": rgb})) == "rgb"


def test_legend_lists_the_classes_that_occur_with_their_shares():
    label = np.array([2, 2, 2, 0, 7, 2, 2, 2, 2, 0], np.int32)
    cloud = PointCloud(np.zeros((10, 3)), {"label": label})
    rgb, legend = colour_points(cloud, "label", ["floor", "wall", "door"], up="z")
    assert [(name, share) for name, _, share in legend.entries] == [
        ("door", 0.7),
        ("floor", 0.2),
        ("unlabelled", 0.1),
    ]
    assert rgb[0].tolist() == list(legend.entries[0][1])


def test_height_counts_from_the_lowest_points_along_up():
    xyz = np.zeros((100, 3))
    xyz[:, 1] = np.linspace(50, 60, 100)
    rgb, legend = colour_points(PointCloud(xyz), "height", up="-y")
    assert legend.low == 0
    assert legend.high == pytest.approx(9.8)
    assert rgb[0].tolist() == [253, 231, 37]
    assert rgb[-1].tolist() == list(RAMPS["height"][0])


def test_a_missing_attribute_is_named(room):
    with pytest.raises(
        ValueError,
        match="colour: expected a cloud with the attribute confidence, found label; colour by",
    ):
        colour_points(room, "confidence")
    with pytest.raises(ValueError, match=r"colour: expected one of label, rgb, .*, found 'pink'"):
        colour_points(room, "pink")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"rgb": np.array([[0, 128, 255]], np.uint8)}, [0, 128, 255]),
        ({"rgb": np.array([[0, 32896, 65535]], np.uint16)}, [0, 128, 255]),
        ({"rgb": np.array([[0, 128, 255]], np.uint16)}, [0, 128, 255]),
        (
            {
                name: np.array([v])
                for name, v in zip(("red", "green", "blue"), (0.0, 0.2, 1.0), strict=True)
            },
            [0, 51, 255],
        ),
    ],
)
def test_natural_colours_of_every_kind(given, wanted):
    cloud = PointCloud(np.zeros((1, 3)), given)
    assert default_colour(cloud) == "rgb"
    assert colour_points(cloud, "rgb")[0].tolist() == [wanted]
