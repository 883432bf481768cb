"""Which way is up in a cloud."""

import numpy as np

from sparseconv._errors import complain

AXES: dict[str, tuple[float, float, float]] = {
    "x": (1.0, 0.0, 0.0),
    "y": (0.0, 1.0, 0.0),
    "z": (0.0, 0.0, 1.0),
    "-x": (-1.0, 0.0, 0.0),
    "-y": (0.0, -1.0, 0.0),
    "-z": (0.0, 0.0, -1.0),
}
FLOORS = frozenset({"floor", "ground", "road", "sidewalk", "terrain", "parking"})


def up_vector(
    xyz: np.ndarray,  # [N, 3]
    up: str | np.ndarray = "auto",
    *,
    labels: np.ndarray | None = None,  # [N]
    names: tuple[str, ...] = (),
) -> np.ndarray:
    """Return the unit vector that points up.

    Args:
        xyz: finite points, float [N, 3].
        up: an axis (`"x"` ... `"-z"`), a vector [3], or `"auto"`: the normal of what is labelled
            as floor or ground; without labels -y for what lies before a camera at the origin,
            and else the axis whose lower side looks most like a floor, in favour of z.
        labels: int [N].
        names: the names of the labels.

    Returns:
        float64 [3].

    Raises:
        ValueError: `up` is neither an axis nor a vector of some length.
    """
    if isinstance(up, str) and up == "auto":
        return _from_floor(xyz, labels, names) if labels is not None else _from_shape(xyz)
    if isinstance(up, str):
        if up not in AXES:
            raise ValueError(complain("up", f"auto or one of {', '.join(AXES)}", repr(up)))
        return np.array(AXES[up])
    vector = np.asarray(up, dtype=np.float64)
    length = np.linalg.norm(vector) if vector.shape == (3,) else 0.0
    if not (np.isfinite(length) and length > 0):
        raise ValueError(complain("up", "an axis or three numbers, not all zero", repr(up)))
    return vector / length


def horizontal_axes(up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two unit vectors square to `up` that make a right-handed frame with it."""
    start = np.array([1.0, 0.0, 0.0]) if abs(up[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    first = start - up * (start @ up)
    first /= np.linalg.norm(first)
    return first, np.cross(up, first)


def _from_floor(xyz: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    wanted = [row for row, name in enumerate(names) if name.strip().lower() in FLOORS]
    on_floor = np.isin(labels, wanted)
    if on_floor.sum() < 50:
        return _from_shape(xyz)
    floor = xyz[on_floor]
    floor = floor[:: max(1, len(floor) // 20000)]
    centre = np.median(floor, axis=0)
    # the smallest singular vector after dropping what lies off the first plane
    for _ in range(3):
        normal = np.linalg.svd(floor - centre, full_matrices=False)[2][2]
        off = np.abs((floor - centre) @ normal)
        close = off <= max(np.percentile(off, 80), 1e-9)
        floor = floor[close]
        centre = floor.mean(axis=0)
    rest = xyz[~on_floor]
    above = np.median((rest - centre) @ normal) if len(rest) else normal @ _from_shape(xyz)
    normal = normal if above >= 0 else -normal
    # a scan that stands on an axis is drawn on that axis, exactly
    axis = max((np.array(axis) for axis in AXES.values()), key=lambda axis: axis @ normal)
    return axis if axis @ normal > 0.985 else normal


def in_camera_frame(xyz: np.ndarray) -> bool:
    """Return whether points lie in a cone before a camera at the origin that looks along z."""
    sample = xyz[:: max(1, len(xyz) // 30000)]
    near, far = np.percentile(sample[:, 2], [1, 99])
    # heights above sea level lie in a cone, too, but in a thin slice of it
    in_cone = np.hypot(sample[:, 0], sample[:, 1]) < 1.2 * sample[:, 2]
    return bool(near > 0 and far > 1.5 * near and in_cone.mean() > 0.995)


def _from_shape(xyz: np.ndarray) -> np.ndarray:
    """Choose the axis along which the lowest points of most columns lie in one thin layer."""
    if in_camera_frame(xyz):
        return np.array(AXES["-y"])
    sample = xyz[:: max(1, len(xyz) // 30000)]
    low, high = np.percentile(sample, [1, 99], axis=0)
    extent = np.maximum(high - low, 1e-9)
    inside = ((sample >= low) & (sample <= high)).all(axis=1)
    if not inside.any():
        return np.array(AXES["z"])
    sample = sample[inside]
    scores = {}
    for name, axis in AXES.items():
        along = int(np.argmax(np.abs(axis)))
        across = [i for i in range(3) if i != along]
        height = (sample @ np.array(axis)) - min(low @ np.array(axis), high @ np.array(axis))
        cells = ((sample[:, across] - low[across]) / extent[across] * 24).astype(np.int64)
        key = cells[:, 0] * 25 + cells[:, 1]
        lowest = np.full(25 * 25, np.inf)
        np.minimum.at(lowest, key, height)
        lowest = lowest[np.isfinite(lowest)]
        layers = np.bincount((lowest / extent[along] * 20).astype(np.int64).clip(0, 20))
        in_layer = np.convolve(layers, [1, 1]).max() / max(len(lowest), 1)
        flat = np.prod(extent[across]) / np.prod(extent) ** (2 / 3)
        scores[name] = in_layer * flat**0.5
    best = max(scores.values())
    # z is up in nearly every file; -y is up in the frame of a camera
    for name in ("z", "-y", "y"):
        if scores[name] >= 0.6 * best:
            return np.array(AXES[name])
    return np.array(AXES[max(scores, key=lambda name: scores[name])])
