"""What to leave out of a picture so that the inside of a room shows."""

import numpy as np

from sparseconv.viz.camera import Camera
from sparseconv.viz.orientation import horizontal_axes

CEILINGS = frozenset({"ceiling", "beam"})
WALLS = frozenset({"wall", "window", "door", "column", "board"})


def below_ceiling(
    xyz: np.ndarray,  # [N, 3]
    up: np.ndarray,  # [3]
    *,
    labels: np.ndarray | None = None,  # [N]
    names: tuple[str, ...] = (),
) -> np.ndarray:
    """Return the points that are not part of a ceiling.

    With a class named ceiling, these are all others. Without, a ceiling is looked for: a layer of
    a thirtieth of the height that is the topmost of most of the columns that also hold a floor.

    Args:
        xyz: finite points [N, 3].
        up: unit vector [3].
        labels: int [N].
        names: the names of the labels.

    Returns:
        bool [N]; all true where there is no ceiling.
    """
    height = xyz @ up
    if labels is not None:
        wanted = [row for row, name in enumerate(names) if name.strip().lower() in CEILINGS]
        roof = np.isin(labels, wanted)
        if roof.sum() >= 50:
            # lamps and the tops of walls at the height of the ceiling would float in the air
            return ~roof & (height < np.percentile(height[roof], 5) - 0.0)
        return np.ones(len(xyz), dtype=bool)
    low, high = np.percentile(height, [1, 99.5])
    span = max(float(high - low), 1e-9)
    first, second = horizontal_axes(up)
    flat = np.stack([xyz @ first, xyz @ second], axis=1)
    corner, far = np.percentile(flat, [1, 99], axis=0)
    cells = ((flat - corner) / np.maximum(far - corner, 1e-9) * 32).astype(np.int64).clip(0, 31)
    key = cells[:, 0] * 32 + cells[:, 1]
    top, bottom = np.full(32 * 32, -np.inf), np.full(32 * 32, np.inf)
    np.maximum.at(top, key, height)
    np.minimum.at(bottom, key, height)
    used = np.isfinite(top)
    layer = ((top[used] - low) / span * 30).astype(np.int64).clip(0, 30)
    counts = np.bincount(layer, minlength=31)
    lid = int(np.argmax(counts[20:])) + 20
    covered = counts[max(lid - 1, 0) : lid + 2].sum() / used.sum()
    open_below = np.mean(bottom[used] < low + 0.35 * span)
    if covered < 0.5 or open_below < 0.4:
        return np.ones(len(xyz), dtype=bool)
    return height < low + span * (lid - 1.0) / 30


def behind_near_wall(
    xyz: np.ndarray,  # [N, 3]
    up: np.ndarray,  # [3]
    camera: Camera,
    *,
    labels: np.ndarray,  # [N]
    names: tuple[str, ...],
) -> np.ndarray:
    """Return the points that are not part of a wall between the camera and the room.

    A wall point is in the way when the wall there turns its back to the camera: the normal of the
    wall in plan, taken over the wall points of its cell and pointing out of the room, looks
    towards the camera.

    Args:
        xyz: finite points [N, 3].
        up: unit vector [3].
        camera: where the picture is taken from.
        labels: int [N].
        names: the names of the labels.

    Returns:
        bool [N]; all true where there is no such wall.
    """
    wanted = [row for row, name in enumerate(names) if name.strip().lower() in WALLS]
    wall = np.flatnonzero(np.isin(labels, wanted))
    keep = np.ones(len(xyz), dtype=bool)
    if len(wall) < 50:
        return keep
    frame = np.stack(horizontal_axes(up), axis=1)
    flat = xyz @ frame
    centre = 0.5 * np.percentile(flat, [2, 98], axis=0).sum(axis=0)
    towards = -(camera.forward @ frame)
    towards /= max(float(np.linalg.norm(towards)), 1e-9)
    plan = flat[wall]
    extent = float(np.ptp(np.percentile(flat, [1, 99], axis=0), axis=0).max())
    cells = np.floor((plan - plan.min(axis=0)) / max(extent / 24, 1e-9)).astype(np.int64)
    _, cell = np.unique(cells[:, 0] * 100003 + cells[:, 1], return_inverse=True)
    count = np.bincount(cell).astype(np.float64)
    mean = np.stack([np.bincount(cell, plan[:, i]) for i in (0, 1)], axis=1) / count[:, None]
    off = plan - mean[cell]
    xx, xy, yy = (np.bincount(cell, off[:, i] * off[:, j]) for i, j in ((0, 0), (0, 1), (1, 1)))
    # the direction of least spread of a two-by-two scatter
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) + 0.5 * np.pi
    normal = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    outward = np.sign((normal * (mean - centre)).sum(axis=1))
    blocks = outward * (normal @ towards) > 0.25
    # a partition in the middle of the room has no outside
    rim = np.abs((normal * (mean - centre)).sum(axis=1)) > 0.25 * extent * 0.5
    keep[wall[(blocks & rim)[cell]]] = False
    return keep
