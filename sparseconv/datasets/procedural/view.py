"""The two sensors: a pinhole depth camera and a spinning LiDAR."""

from collections.abc import Sequence

import numpy as np

from sparseconv.datasets.procedural.raycast import RayImage, corners
from sparseconv.datasets.procedural.solid import Solid

Window = tuple[int, int, int, int, int]


class PinholeView:
    """A depth camera looking along its own x axis.

    Args:
        origin: [3] metres.
        yaw: heading, radians.
        pitch: positive looks up, radians.
        roll: radians.
        field: horizontal field of view, radians.
        shape: rows and columns of the image.
    """

    def __init__(self, origin, yaw, pitch, roll, *, field, shape):
        cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
        ahead = np.array([cy * cp, sy * cp, sp])
        side = np.array([sy, -cy, 0.0])
        up = np.cross(side, ahead)
        self.side = np.cos(roll) * side + np.sin(roll) * up
        self.up = np.cos(roll) * up - np.sin(roll) * side
        self.ahead, self.origin, self.shape = ahead, np.asarray(origin, float), shape
        self.focal = shape[1] / 2 / np.tan(field / 2)

    def rays(self) -> RayImage:
        """Return the empty image of this camera."""
        rows, columns = self.shape
        x = (np.arange(columns) + 0.5 - columns / 2) / self.focal
        y = (rows / 2 - np.arange(rows) - 0.5) / self.focal
        d = (
            self.ahead[:, None, None]
            + self.side[:, None, None] * x[None, None]
            + self.up[:, None, None] * y[None, :, None]
        )
        return RayImage.empty(self.origin, d / np.linalg.norm(d, axis=0))

    def windows(self, solids: Sequence[Solid], reach: float) -> list[Window]:
        """Return the image window of each solid that can be seen within `reach` metres."""
        rows, columns = self.shape
        p = corners(solids) - self.origin
        depth = p @ self.ahead
        front = depth.min(1) > 0.05
        safe = np.maximum(depth, 0.05)
        u = columns / 2 + self.focal * (p @ self.side) / safe
        v = rows / 2 - self.focal * (p @ self.up) / safe
        left = np.where(front, np.floor(u.min(1)), 0).clip(0, columns).astype(int)
        right = np.where(front, np.ceil(u.max(1)) + 1, columns).clip(0, columns).astype(int)
        top = np.where(front, np.floor(v.min(1)), 0).clip(0, rows).astype(int)
        bottom = np.where(front, np.ceil(v.max(1)) + 1, rows).clip(0, rows).astype(int)
        seen = (depth.max(1) > 0.05) & (depth.min(1) < reach) & (left < right) & (top < bottom)
        return [
            (int(s), int(top[s]), int(bottom[s]), int(left[s]), int(right[s]))
            for s in np.flatnonzero(seen)
        ]


class SpinView:
    """A LiDAR turning about z: one row per beam, one column per azimuth step.

    Args:
        elevation: [H] beam angles from high to low, radians.
        steps: azimuth steps of a turn.
        origin: [3] metres.
    """

    def __init__(self, elevation: np.ndarray, steps: int, origin=(0.0, 0.0, 0.0)):
        self.elevation = np.asarray(elevation, float)
        self.azimuth = (np.arange(steps) + 0.5) / steps * 2 * np.pi - np.pi
        self.origin = np.asarray(origin, float)

    def rays(self) -> RayImage:
        """Return the empty image of this sensor."""
        e, a = self.elevation[:, None], self.azimuth[None]
        d = [np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e) + 0 * a]
        return RayImage.empty(self.origin, np.stack(d))

    def windows(self, solids: Sequence[Solid], reach: float) -> list[Window]:
        """Return the image windows of each solid within `reach` metres; two where it wraps."""
        steps = len(self.azimuth)
        p = corners(solids) - self.origin
        middle = p.mean(1)
        spread = np.hypot(p[..., 0] - middle[:, None, 0], p[..., 1] - middle[:, None, 1]).max(1)
        away = np.hypot(middle[:, 0], middle[:, 1])
        near, far = np.maximum(away - spread, 0.3), away + spread
        low, high = p[..., 2].min(1), p[..., 2].max(1)
        # the steepest line to a height is at the nearest or the farthest corner
        upper = np.arctan2(high, np.where(high > 0, near, far))
        lower = np.arctan2(low, np.where(low > 0, far, near))
        top = np.searchsorted(-self.elevation, -upper, "left")
        bottom = np.searchsorted(-self.elevation, -lower, "right")
        heading = np.arctan2(middle[:, 1], middle[:, 0])
        turn = np.arctan2(p[..., 1], p[..., 0]) - heading[:, None]
        turn = (turn + np.pi) % (2 * np.pi) - np.pi
        around = (turn.max(1) - turn.min(1) > np.pi) | (away < 0.05)
        # a long wall can pass the sensor closer than half its length without surrounding it
        first = np.where(around, -np.pi, heading + turn.min(1))
        last = np.where(around, np.pi, heading + turn.max(1))
        left = np.floor((first + np.pi) / (2 * np.pi) * steps).astype(int) - 1
        right = np.ceil((last + np.pi) / (2 * np.pi) * steps).astype(int) + 1
        windows = []
        for s in np.flatnonzero((near < reach) & (top < bottom)):
            t, b = int(top[s]), int(bottom[s])
            if right[s] - left[s] >= steps:
                windows.append((int(s), t, b, 0, steps))
                continue
            begin = int(left[s]) % steps
            end = begin + int(right[s] - left[s])
            windows.append((int(s), t, b, begin, min(end, steps)))
            if end > steps:
                windows.append((int(s), t, b, 0, end - steps))
        return windows
