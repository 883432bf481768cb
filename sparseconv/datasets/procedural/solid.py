"""Convex solids of a procedural scene: shape, place, label and how a ray sees them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

Surface = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Solid:
    """One solid in its own frame, moved by `rotation` and `centre`.

    Args:
        kind: `"box"`, `"ellipsoid"`, `"frustum"`, `"rounded"` or `"convex"`.
        half: [3] half extents, metres; they bound the solid for every kind.
        label: class of every point on it.
        centre: [3] metres.
        rotation: [3, 3] local to world.
        colour: base colour, three numbers in 0..1.
        reflectivity: fraction of light a LiDAR gets back at normal incidence.
        free_path: mean depth in metres a ray travels inside before it is stopped; 0 is opaque.
        dropout: share of the rays that hit the solid and return nothing (glass, black paint).
        radius: rounding of the edges of `"rounded"`, metres.
        taper: `"frustum"` only, relative change of the radius from the middle to the top.
        hollow: `"frustum"` only, a pipe without lids.
        planes: `"convex"` only, [F, 4] rows (n, d): inside is n . x <= d.
        surface: `"box"` only, depth in metres behind the faces across local y at (x, z);
            inf is an opening.
        pattern: name of the colour pattern.
    """

    kind: str
    half: np.ndarray
    label: int
    centre: np.ndarray = field(default_factory=lambda: np.zeros(3))
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    colour: tuple[float, float, float] = (0.6, 0.6, 0.6)
    reflectivity: float = 0.35
    free_path: float = 0.0
    dropout: float = 0.0
    radius: float = 0.0
    taper: float = 0.0
    hollow: bool = False
    planes: np.ndarray | None = None
    surface: Surface | None = None
    pattern: str = "plain"

    def moved(self, rotation: np.ndarray, offset: np.ndarray) -> "Solid":
        """Return the solid turned by `rotation` [3, 3] about the origin, then shifted."""
        return replace(
            self, centre=rotation @ self.centre + offset, rotation=rotation @ self.rotation
        )


def yaw_matrix(yaw: float) -> np.ndarray:
    """Return the rotation by `yaw` radians about z, [3, 3]."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def tilt_matrix(axis: int, angle: float) -> np.ndarray:
    """Return the rotation by `angle` radians about coordinate axis 0, 1 or 2, [3, 3]."""
    c, s = np.cos(angle), np.sin(angle)
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = c
    matrix[a, b], matrix[b, a] = -s, s
    return matrix


def place(solids: Iterable[Solid], x: float, y: float, z: float, yaw: float) -> list[Solid]:
    """Turn a group of solids about z by `yaw` radians, then move it to (x, y, z)."""
    rotation, offset = yaw_matrix(yaw), np.array([x, y, z])
    return [solid.moved(rotation, offset) for solid in solids]


def tilted(solid: Solid, axis: int, angle: float, pivot) -> Solid:
    """Turn a solid about an axis through `pivot` by `angle` radians."""
    turn, pivot = tilt_matrix(axis, angle), np.asarray(pivot, float)
    return solid.moved(turn, pivot - turn @ pivot)


def box(low, high, label: int, **look) -> Solid:
    """Return the axis-aligned box between two corners."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    return Solid("box", (high - low) / 2, label, centre=(high + low) / 2, **look)


def rounded(low, high, radius: float, label: int, **look) -> Solid:
    """Return a box between two corners whose edges are rounded with `radius` metres."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    half = (high - low) / 2
    return Solid(
        "rounded",
        half,
        label,
        centre=(high + low) / 2,
        radius=float(min(radius, half.min() * 0.95)),
        **look,
    )


def ellipsoid(centre, half, label: int, **look) -> Solid:
    """Return an axis-aligned ellipsoid."""
    return Solid(
        "ellipsoid", np.asarray(half, float), label, centre=np.asarray(centre, float), **look
    )


def frustum(foot, bottom: float, top: float, height: float, label: int, **look) -> Solid:
    """Return an upright cylinder or cone stump over `foot` with two radii in metres."""
    foot = np.asarray(foot, float)
    middle = (bottom + top) / 2
    wide = max(bottom, top)
    return Solid(
        "frustum",
        np.array([wide, wide, height / 2]),
        label,
        centre=foot + np.array([0.0, 0.0, height / 2]),
        radius=middle,
        taper=(top - bottom) / (top + bottom),
        **look,
    )


def rod(start, end, radius: float, label: int, **look) -> Solid:
    """Return a round bar from `start` to `end`."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = end - start
    length = float(np.linalg.norm(along))
    along = along / length
    side = np.cross(along, (0.0, 0.0, 1.0) if abs(along[2]) < 0.9 else (1.0, 0.0, 0.0))
    side /= np.linalg.norm(side)
    return Solid(
        "frustum",
        np.array([radius, radius, length / 2]),
        label,
        centre=(start + end) / 2,
        rotation=np.stack([side, np.cross(along, side), along], 1),
        radius=radius,
        **look,
    )


def prism(profile, width: float, label: int, inset: float = 0.0, **look) -> Solid:
    """Return a convex profile in x and z, [F, 2] counter-clockwise, extruded along y.

    Args:
        profile: corner points, metres.
        width: extent along y at the foot of the profile, metres.
        label: class of every point on it.
        inset: how far each side leans inward from the lowest to the highest corner, metres.
        look: further fields of `Solid`.
    """
    profile = np.asarray(profile, float)
    low, high = profile.min(0), profile.max(0)
    middle = (low + high) / 2
    centred = profile - middle
    edge = np.roll(centred, -1, 0) - centred
    normal = np.stack([edge[:, 1], np.zeros(len(edge)), -edge[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    planes = [np.append(n, n[0] * p[0] + n[2] * p[1]) for n, p in zip(normal, centred, strict=True)]
    slope = inset / max(high[1] - low[1], 1e-6)
    for sign in (-1.0, 1.0):
        side = np.array([0.0, sign, slope])
        scale = np.linalg.norm(side)
        planes.append(np.append(side / scale, (width / 2 - inset / 2) / scale))
    half = np.array([centred[:, 0].max(), width / 2, centred[:, 1].max()])
    return Solid(
        "convex",
        half,
        label,
        centre=np.array([middle[0], 0.0, middle[1]]),
        planes=np.stack(planes),
        **look,
    )
