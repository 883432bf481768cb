"""Give every point its colour, and say what the colours mean."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparseconv._errors import complain
from sparseconv.io.point_cloud import PointCloud
from sparseconv.viz.orientation import up_vector
from sparseconv.viz.palette import UNKNOWN, Classes, as_classes, label_rgb, ramp_rgb

COLOURS = ("label", "rgb", "confidence", "height", "intensity")


@dataclass(frozen=True)
class Legend:
    """What the colours of a picture mean.

    Args:
        entries: name, colour and share of the points of each class, the largest share first.
        ramp: the name of the ramp, None for classes and natural colours.
        low: what the first colour of the ramp stands for.
        high: what the last colour of the ramp stands for.
        title: what is drawn, one or two words.
    """

    entries: tuple[tuple[str, tuple[int, int, int], float], ...] = ()
    ramp: str | None = None
    low: float = 0.0
    high: float = 1.0
    title: str = ""


def default_colour(cloud: PointCloud) -> str:
    """Return the most telling colouring that a cloud has the attributes for."""
    if "label" in cloud.attributes:
        return "label"
    return "height" if cloud.unit_rgb() is None else "rgb"


def colour_points(
    cloud: PointCloud,
    colour: str,
    classes: Any = None,
    *,
    up: str | np.ndarray = "auto",
) -> tuple[np.ndarray, Legend]:
    """Return the colour of every point and the legend.

    Args:
        cloud: N points, all finite.
        colour: `"label"`, `"rgb"`, `"confidence"`, `"height"` or `"intensity"`.
        classes: an object with `.names` and `.colours`, a sequence of names, or None.
        up: an axis, a vector [3], or `"auto"`; for `"height"`.

    Returns:
        uint8 [N, 3] and the legend.

    Raises:
        ValueError: no such colouring, or the cloud lacks the attribute for it.
    """
    if colour not in COLOURS:
        raise ValueError(complain("colour", f"one of {', '.join(COLOURS)}", repr(colour)))
    natural = cloud.unit_rgb() if colour == "rgb" else None
    if natural is None and colour != "height" and colour not in cloud.attributes:
        found = ", ".join(cloud.attributes) or "none"
        raise ValueError(
            complain("colour", f"a cloud with the attribute {colour}", found, "colour by height")
        )
    if colour == "label":
        labels = np.asarray(cloud.attributes["label"])
        table = as_classes(classes, labels)
        return label_rgb(labels, table), Legend(entries=_shares(labels, table), title="class")
    if natural is not None:
        return np.rint(255 * natural).astype(np.uint8), Legend(title="colour")
    if colour == "confidence":
        rgb = ramp_rgb(cloud.attributes["confidence"], "confidence")
        return rgb, Legend(ramp="confidence", title="confidence")
    if colour == "intensity":
        values, unit = np.asarray(cloud.attributes["intensity"], dtype=np.float64), "intensity"
    else:
        labels = cloud.attributes.get("label")
        names = as_classes(classes, labels).names
        values, unit = cloud.xyz @ up_vector(cloud.xyz, up, labels=labels, names=names), "height"
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [1, 99]) if len(known) else (0.0, 1.0)
    if unit == "height":
        # heights count from the lowest points: a map's datum says nothing about a room
        values, low, high = values - low, 0.0, high - low
    legend = Legend(ramp="height", low=float(low), high=float(high), title=unit)
    return ramp_rgb(values, "height", low, high), legend


def _shares(labels: np.ndarray, table: Classes) -> tuple:
    total = max(len(labels), 1)
    rows = labels.astype(np.int64)
    known = (rows >= 0) & (rows < len(table.names))
    counts = np.bincount(rows[known], minlength=len(table.names))
    entries = [
        (name, tuple(int(c) for c in table.colours[row]), float(counts[row] / total))
        for row, name in enumerate(table.names)
        if counts[row]
    ]
    entries.sort(key=lambda entry: -entry[2])
    if not known.all():
        entries.append(("unlabelled", UNKNOWN, float(np.mean(~known))))
    return tuple(entries)
