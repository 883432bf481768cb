"""Label tables: the classes of a dataset, their colours, and how foreign ids map to them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sparseconv._errors import complain

IGNORE = 255


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Names and display colours of the classes 0, 1, ..., in order.

    Args:
        name: of the table.
        names: one per class.
        palette: one (red, green, blue) in 0..255 per class.
        ignore: the label of points that belong to no class.

    Example:
        >>> ROOMS.names[0], ROOMS.index("wall"), len(ROOMS)
        ('floor', 1, 8)
    """

    name: str
    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore: int = IGNORE

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the class number of `name`.

        Raises:
            ValueError: there is no such class.
        """
        if name not in self.names:
            raise ValueError(complain("class", f"one of {', '.join(self.names)}", repr(name)))
        return self.names.index(name)

    def colours(self, label: np.ndarray) -> np.ndarray:
        """Return the display colour of each label [N] as uint8 [N, 3]; others are dark grey."""
        known = np.array([*self.palette, (64, 64, 64)], np.uint8)
        label = np.asarray(label)
        inside = (label >= 0) & (label < len(self))
        return known[np.where(inside, label, len(self))]


def remap(label: np.ndarray, table: Mapping[int, int], ignore: int = IGNORE) -> np.ndarray:
    """Translate raw ids into classes.

    Args:
        label: [N] integers.
        table: raw id to class.
        ignore: what every id outside the table becomes.

    Returns:
        int32 [N].
    """
    raw, inverse = np.unique(np.asarray(label), return_inverse=True)
    known = np.array([table.get(int(i), ignore) for i in raw], np.int32)
    return known[inverse.reshape(-1)] if len(raw) else np.zeros(0, np.int32)


# walls own what is flat on them: doors, panes, pictures, baseboards; sofas include all
# upholstery: armchairs and beds too
ROOMS = LabelTable(
    "rooms",
    ("floor", "wall", "ceiling", "table", "chair", "sofa", "cabinet", "other"),
    (
        (152, 223, 138),
        (174, 199, 232),
        (219, 219, 141),
        (255, 152, 80),
        (188, 80, 189),
        (140, 86, 75),
        (31, 119, 180),
        (214, 39, 40),
    ),
)

# a road is what cars drive and park on; a person rides or walks; pole includes traffic signs
STREETS = LabelTable(
    "streets",
    (
        "road",
        "sidewalk",
        "terrain",
        "building",
        "fence",
        "vegetation",
        "trunk",
        "pole",
        "vehicle",
        "person",
        "other",
    ),
    (
        (200, 60, 200),
        (110, 40, 120),
        (150, 220, 90),
        (250, 200, 30),
        (240, 130, 60),
        (30, 150, 40),
        (130, 80, 30),
        (90, 90, 110),
        (90, 150, 245),
        (230, 40, 50),
        (60, 200, 200),
    ),
)

SEMANTICKITTI_NAMES: dict[int, str] = {
    0: "unlabeled",
    1: "outlier",
    10: "car",
    11: "bicycle",
    13: "bus",
    15: "motorcycle",
    16: "on-rails",
    18: "truck",
    20: "other-vehicle",
    30: "person",
    31: "bicyclist",
    32: "motorcyclist",
    40: "road",
    44: "parking",
    48: "sidewalk",
    49: "other-ground",
    50: "building",
    51: "fence",
    52: "other-structure",
    60: "lane-marking",
    70: "vegetation",
    71: "trunk",
    72: "terrain",
    80: "pole",
    81: "traffic-sign",
    99: "other-object",
    252: "moving-car",
    253: "moving-bicyclist",
    254: "moving-person",
    255: "moving-motorcyclist",
    256: "moving-on-rails",
    257: "moving-bus",
    258: "moving-truck",
    259: "moving-other-vehicle",
}

_STREETS_OF_SEMANTICKITTI = {
    "road": (40, 44, 60),
    "sidewalk": (48,),
    "terrain": (72,),
    "building": (50,),
    "fence": (51,),
    "vegetation": (70,),
    "trunk": (71,),
    "pole": (80, 81),
    "vehicle": (10, 13, 16, 18, 20, 252, 256, 257, 258, 259),
    "person": (11, 15, 30, 31, 32, 253, 254, 255),
}

# raw id to class; the ids missing here (0, 1, 49, 52, 99) are ignored, as all but 49 are in the
# official benchmark
semantickitti_to_streets: dict[int, int] = {
    raw: STREETS.index(name) for name, ids in _STREETS_OF_SEMANTICKITTI.items() for raw in ids
}

_STREETS_OF_NUSCENES = {
    "road": (24,),
    "sidewalk": (26,),
    "terrain": (27,),
    "building": (28,),
    "fence": (9,),
    "vegetation": (30,),
    "vehicle": (15, 16, 17, 18, 19, 20, 22, 23),
    "person": (2, 3, 4, 5, 6, 14, 21),
    "other": (7, 8, 10, 11, 12, 13),
}

# lidarseg index to class; coarse: its "manmade" holds poles and walls besides buildings
nuscenes_to_streets: dict[int, int] = {
    raw: STREETS.index(name) for name, ids in _STREETS_OF_NUSCENES.items() for raw in ids
}

TABLES: dict[str, LabelTable] = {table.name: table for table in (ROOMS, STREETS)}
