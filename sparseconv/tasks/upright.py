"""Which way is up in an indoor scan that may lie in the frame of a camera."""

from __future__ import annotations

import numpy as np

from sparseconv._errors import complain
from sparseconv.tasks.surfels import is_new, level_normals, squareness, surfels
from sparseconv.tasks.up_score import score

AXES = {
    sign + name: np.eye(3)[row] * (-1.0 if sign else 1.0)
    for sign in ("", "-")
    for row, name in enumerate("xyz")
}


def up_axis(name: str) -> np.ndarray:
    """Return the unit vector of `"x"`, `"-x"`, ... `"-z"`.

    Raises:
        ValueError: there is no such axis.
    """
    if name not in AXES:
        raise ValueError(complain("up", f"auto or one of {', '.join(AXES)}", repr(name)))
    return AXES[name].copy()


def to_upright(
    xyz: np.ndarray,  # [N, 3]
    up: np.ndarray,  # [3]
) -> np.ndarray:  # [N, 3]
    """Turn points the shortest way that brings the unit vector `up` to z."""
    axis = np.cross(up, AXES["z"])
    sine = np.linalg.norm(axis)
    if sine < 1e-9:
        return xyz if up[2] > 0 else xyz * np.array([1.0, -1.0, -1.0])
    turn = rotation(axis / sine, float(np.arctan2(sine, up[2])))
    # a quarter turn is exact: its cosine is not left at 6e-17
    turn = np.where(np.abs(turn - turn.round()) < 1e-12, turn.round(), turn)
    return xyz @ turn.T


def rotation(
    axis: np.ndarray,  # [3]
    angle: float,
) -> np.ndarray:  # [3, 3]
    """Return the rotation by `angle` radians about the unit vector `axis`."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def find_up(
    xyz: np.ndarray,  # [N, 3]
) -> tuple[np.ndarray, str]:
    """Estimate which way is up: deterministic.

    Directions that many normals share, and directions square to two of them, are looked at both
    ways round. Each is scored by how the scan looks along it (`sparseconv.tasks.up_score`), and
    the directions files usually have up in are favoured: z, then -y (a camera's frame), then y.

    Args:
        xyz: finite points, metres.

    Returns:
        A unit vector [3], and in words what was chosen and how sure it is.
    """
    if len(xyz) < 100:
        return AXES["z"].copy(), "up is z: too few points to tell"
    pieces = surfels(xyz)
    trials = [sign * axis for axis in level_normals(pieces) for sign in (1.0, -1.0)]
    # an axis no level surface is square to counts where most surfaces are square to it or along it
    usual = [AXES[name] for name in ("z", "-y", "y") if is_new(AXES[name], trials)]
    trials += [axis for axis in usual if squareness(pieces, axis) > 0.5] or usual[: not trials]
    scores = np.array([score(pieces, trial) + custom(trial) for trial in trials])
    best = int(scores.argmax())
    up = trials[best]
    # a scan that stands on an axis stays on it
    nearest = max(AXES.values(), key=lambda axis: float(axis @ up))
    if nearest @ up > np.cos(np.radians(2)):
        up = nearest
    chance = np.exp(scores - scores.max())
    share = 100 / chance.sum()
    place = ", ".join(f"{part:.2f}" for part in up + 0.0)
    return up.copy(), f"up is ({place}), found from the surfaces, {share:.0f} % sure; see --up"


def custom(
    up: np.ndarray,  # [3]
) -> float:
    """Return the log-odds, before looking, of a direction being up in the axes of a file.

    z stands for most files, exactly; -y for the frame of a camera and y for that of graphics,
    which a hand may hold at an angle.
    """
    for name, angle, odds in (("z", 5, 5.0), ("-y", 40, 2.0), ("y", 20, 1.5), ("z", 20, 1.0)):
        if AXES[name] @ up > np.cos(np.radians(angle)):
            return odds
    return -1.5
