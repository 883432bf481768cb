"""Colours: one per class, a ramp for heights, a ramp for confidences.

The class colours are told apart with red-green and blue-yellow colour blindness, because
neighbouring classes of a scene differ in lightness as well as in hue.
"""

from typing import Any, NamedTuple

import numpy as np

from sparseconv._errors import complain

UNKNOWN = (178, 178, 178)

# the names that scans of rooms and streets use; anything else takes the next colour of SEQUENCE
NAMED: dict[str, tuple[int, int, int]] = {
    "floor": (201, 179, 138),
    "ceiling": (222, 222, 228),
    "wall": (139, 164, 196),
    "window": (86, 200, 233),
    "door": (150, 92, 52),
    "chair": (213, 94, 0),
    "table": (240, 190, 40),
    "sofa": (0, 135, 108),
    "bed": (170, 68, 153),
    "cabinet": (94, 60, 153),
    "shelf": (51, 34, 136),
    "clutter": (66, 66, 76),
    "other": (66, 66, 76),
    "road": (118, 78, 150),
    "sidewalk": (208, 142, 178),
    "ground": (196, 176, 132),
    "terrain": (196, 232, 120),
    "vegetation": (0, 128, 80),
    "tree": (0, 128, 80),
    "trunk": (104, 58, 24),
    "building": (206, 160, 84),
    "fence": (255, 168, 130),
    "pole": (250, 220, 30),
    "sign": (230, 60, 30),
    "car": (0, 114, 200),
    "vehicle": (0, 114, 200),
    "truck": (0, 60, 140),
    "person": (214, 0, 50),
    "pedestrian": (214, 0, 50),
    "bicycle": (80, 200, 220),
    "unlabelled": UNKNOWN,
    "unlabeled": UNKNOWN,
    "unknown": UNKNOWN,
}

# Okabe and Ito's eight without black, then Tol's muted scheme
SEQUENCE: tuple[tuple[int, int, int], ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (213, 94, 0),
    (86, 180, 233),
    (204, 121, 167),
    (240, 228, 66),
    (51, 34, 136),
    (136, 34, 85),
    (153, 153, 51),
    (68, 170, 153),
    (221, 204, 119),
    (17, 119, 51),
    (170, 68, 153),
)

RAMPS: dict[str, tuple[tuple[int, int, int], ...]] = {
    # viridis, its dark end made lighter so that it shows on a dark ground, too
    "height": (
        (92, 62, 158),
        (78, 72, 156),
        (66, 84, 150),
        (49, 104, 142),
        (38, 130, 142),
        (31, 158, 137),
        (53, 183, 121),
        (110, 206, 88),
        (253, 231, 37),
    ),
    # doubt is orange, so that it catches the eye
    "confidence": ((200, 70, 0), (240, 150, 60), (225, 220, 205), (110, 165, 205), (0, 90, 160)),
    # weak to strong on a light ground
    "strength": ((196, 219, 240), (107, 174, 214), (49, 130, 189), (8, 81, 156), (8, 32, 92)),
}


class Classes(NamedTuple):
    """The names of the classes and their colours, row = label."""

    names: tuple[str, ...]
    colours: np.ndarray  # [n, 3] uint8


def class_colour(name: str, position: int = 0) -> tuple[int, int, int]:
    """Return the colour of a class by its name, or the one of its position for unknown names."""
    return NAMED.get(name.strip().lower(), SEQUENCE[position % len(SEQUENCE)])


def as_classes(classes: Any, labels: np.ndarray | None = None) -> Classes:
    """Return names and colours from whatever describes the classes.

    Args:
        classes: an object with `.names` and perhaps `.colours` (a row for each), a sequence of
            names, or None. Classes without colours get those of this palette.
        labels: int [N]; with None for `classes`, one class is made for every value up to the
            largest.

    Returns:
        Names and colours, row = label.
    """
    if classes is None:
        count = 0 if labels is None or labels.size == 0 else max(int(labels.max()) + 1, 0)
        count = min(count, 65536)
        colours = [SEQUENCE[i % len(SEQUENCE)] for i in range(count)]
        return Classes(tuple(f"class {i}" for i in range(count)), _table(colours))
    if isinstance(classes, str):
        raise TypeError(
            complain("classes", "a sequence of names", "one string", "give a list of names")
        )
    names = tuple(str(name) for name in getattr(classes, "names", classes))
    given = getattr(classes, "colours", None)
    if given is None or callable(given):
        return Classes(names, _table([class_colour(name, i) for i, name in enumerate(names)]))
    if len(given) != len(names):
        raise ValueError(
            complain("classes.colours", f"{len(names)} rows", f"{len(given)}", "give one a class")
        )
    return Classes(names, _table([_triple(colour) for colour in given]))


def label_rgb(labels: np.ndarray, classes: Classes) -> np.ndarray:
    """Return the colour of every label; what no class names is grey.

    Args:
        labels: int [N].
        classes: names and colours.

    Returns:
        uint8 [N, 3].
    """
    table = np.vstack([classes.colours, _table([UNKNOWN])])
    rows = labels.astype(np.int64)
    outside = (rows < 0) | (rows >= len(classes.names))
    return table[np.where(outside, len(classes.names), rows)]


def ramp_rgb(values: np.ndarray, ramp: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Return the colour of every value on a ramp; values outside are clipped, NaN is grey.

    Args:
        values: float [N].
        ramp: `"height"` or `"confidence"`.
        low: the value of the ramp's first colour.
        high: the value of its last colour.

    Returns:
        uint8 [N, 3].
    """
    stops = np.asarray(RAMPS[ramp], dtype=np.float64)
    span = high - low if high > low else 1.0
    position = np.clip((np.asarray(values, dtype=np.float64) - low) / span, 0.0, 1.0)
    known = np.isfinite(position)
    at = np.where(known, position, 0.0) * (len(stops) - 1)
    colours = [np.interp(at, np.arange(len(stops)), stops[:, channel]) for channel in range(3)]
    rgb = np.rint(np.stack(colours, axis=1)).astype(np.uint8)
    rgb[~known] = UNKNOWN
    return rgb


def _triple(colour: Any) -> tuple[int, int, int]:
    if isinstance(colour, str):
        digits = colour.lstrip("#")
        return int(digits[0:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)
    values = np.asarray(colour)
    if np.issubdtype(values.dtype, np.floating) and values.max() <= 1.0:
        values = np.rint(values * 255)
    return int(values[0]), int(values[1]), int(values[2])


def _table(colours: list[tuple[int, int, int]]) -> np.ndarray:
    return np.asarray(colours, dtype=np.uint8).reshape(-1, 3)
