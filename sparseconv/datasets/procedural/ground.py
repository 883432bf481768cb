"""The ground of a street scene: roads, curbs, sidewalks, terrain, as a height field."""

from dataclasses import dataclass

import numpy as np

from sparseconv.datasets.labels import STREETS
from sparseconv.datasets.procedural.raycast import RayImage

ROAD, SIDEWALK, TERRAIN = (STREETS.index(n) for n in ("road", "sidewalk", "terrain"))


@dataclass(frozen=True, slots=True)
class Road:
    """One road: a gently winding line and a width.

    Args:
        at: [2] a point on the centre line, metres.
        heading: radians.
        half: half the width of the carriageway, metres.
        sway: amplitude of the winding, metres.
        wave: length of the winding, metres per radian.
        phase: of the winding, radians.
        stop: the road ends at `at` and only leads forward (a T junction).
    """

    at: np.ndarray
    heading: float
    half: float
    sway: float = 0.0
    wave: float = 30.0
    phase: float = 0.0
    stop: bool = False

    def outside(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the distance in metres from the road's edge, negative on the road."""
        c, s = np.float32(np.cos(self.heading)), np.float32(np.sin(self.heading))
        dx, dy = x - np.float32(self.at[0]), y - np.float32(self.at[1])
        along, across = c * dx + s * dy, c * dy - s * dx
        if self.sway:
            across = across - np.float32(self.sway) * (
                np.sin(along / np.float32(self.wave) + np.float32(self.phase))
                - np.float32(np.sin(self.phase))
            )
        edge = np.abs(across) - np.float32(self.half)
        return np.maximum(edge, -along) if self.stop else edge

    def beside(self, along: float, offset: float) -> tuple[float, float, float]:
        """Return (x, y, heading) at `along` the road and `offset` to the left, metres."""
        bend = self.sway * (np.sin(along / self.wave + self.phase) - np.sin(self.phase))
        slope = self.sway / self.wave * np.cos(along / self.wave + self.phase)
        turn = np.arctan(slope)
        u, v = along - offset * np.sin(turn), bend + offset * np.cos(turn)
        c, s = np.cos(self.heading), np.sin(self.heading)
        return (
            float(self.at[0] + c * u - s * v),
            float(self.at[1] + s * u + c * v),
            self.heading + float(turn),
        )


class Ground:
    """Heights and classes of the ground around the sensor at the origin.

    Args:
        rng: draws the roads, the widths of the strips beside them, and the relief.
        height: of the sensor over the road, metres.
    """

    def __init__(self, rng: np.random.Generator, height: float):
        self.style = str(rng.choice(["town", "suburb", "rural"], p=(0.45, 0.4, 0.15)))
        half = rng.uniform(2.8, 6.5)
        lane = rng.uniform(-0.7, 0.1) * half
        main = Road(
            np.array([0.0, -lane]),
            rng.normal(0, 0.06),
            half,
            float(rng.choice((0.0, rng.uniform(0.5, 6.0)))),
            rng.uniform(15, 50),
            rng.uniform(0, 6.3),
        )
        self.roads = [main]
        for _ in range(rng.choice(4, p=(0.3, 0.35, 0.25, 0.1))):
            at = main.beside(rng.uniform(-45, 55), 0.0)
            turn = rng.choice((-1, 1)) * rng.uniform(0.9, 2.2)
            side = Road(
                np.array(at[:2]), at[2] + turn, rng.uniform(2.3, 5.0), stop=rng.random() < 0.6
            )
            self.roads.append(side)
        self.blend = rng.uniform(1.0, 3.0)
        self.curb = 0.0 if self.style == "rural" else rng.uniform(0.03, 0.18)
        self.bevel = rng.choice((0.05, rng.uniform(0.05, 0.3)))
        self.verge = rng.uniform(0.8, 2.5) if rng.random() < 0.25 else 0.0
        wide = {"town": (1.5, 6.0), "suburb": (1.2, 3.5), "rural": (0.0, 0.0)}[self.style]
        self.walk = rng.uniform(*wide)
        self.paved = self.style == "town" and rng.random() < 0.6
        self.slope = rng.normal(0, (0.02, 0.012))
        self.bank = rng.normal(0.02, 0.05) if not self.paved else rng.normal(0, 0.01)
        self.camber = rng.uniform(0.0, 0.025)
        self.waves = np.stack(
            [rng.uniform(0.02, 0.12, 5), rng.uniform(0, 6.3, 5), rng.uniform(0, 6.3, 5)], 1
        ).astype(np.float32)
        self.swell = rng.uniform(0, 0.12)
        self.rough = rng.uniform(0.005, 0.04)
        self.grass = rng.uniform(0.003, 0.03)
        # driveways lower the curb
        self.dips = rng.uniform(0, 6.3, 2), rng.uniform(0.5, 1.1)
        self.base = -height
        self.base -= float(
            self.height(np.zeros(1, np.float32), np.zeros(1, np.float32))[0] + height
        )

    @property
    def strip(self) -> float:
        """Width of everything between the curb and the lots, metres."""
        return self.verge + self.walk

    def outside(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the distance in metres from the nearest road's edge, negative on a road."""
        edge = self.roads[0].outside(x, y)
        for road in self.roads[1:]:
            other = road.outside(x, y)
            # a smooth minimum rounds the corners of junctions
            gap = np.maximum(self.blend - np.abs(edge - other), 0) / np.float32(self.blend)
            edge = np.minimum(edge, other) - gap * gap * np.float32(self.blend / 4)
        return edge

    def _lots(self, x, y, d):
        """Return how far the terrain lies above the strip beside the road, metres."""
        out = np.clip(d - self.strip, 0, None)
        bumps = 0
        for k, p, q in self.waves:
            bumps = bumps + np.sin(k * 6 * x + p) * np.sin(k * 6 * y + q)
        return self.bank * np.minimum(out, 12) + self.rough * bumps * np.minimum(out, 1)

    def height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the height of the ground at float32 places, metres."""
        d = self.outside(x, y)
        z = self.base + np.float32(self.slope[0]) * x + np.float32(self.slope[1]) * y
        k, p, q = self.waves[0]
        z = z + np.float32(self.swell) * np.sin(k * x + p) * np.sin(k * y + q)
        z = z - np.float32(self.camber) * np.clip(d, -4, 0) * np.float32(1.0)
        curb = np.float32(self.curb)
        if curb:
            (p, q), low = self.dips
            drive = np.sin(x * 0.4 + p) * np.sin(y * 0.4 + q) > low
            z = z + np.where(drive, curb * 0.2, curb) * np.clip(d / np.float32(self.bevel), 0, 1)
        if not self.paved:
            z = z + self._lots(x, y, d).astype(np.float32)
        return z

    def classes(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the class of the ground at places, int32."""
        d = self.outside(x.astype(np.float32), y.astype(np.float32))
        out = np.full(d.shape, SIDEWALK if self.paved else TERRAIN, np.int32)
        out[d < self.strip] = SIDEWALK
        out[d < self.verge] = TERRAIN
        out[d < 0] = ROAD
        return out

    def cast(self, image: RayImage, azimuth: np.ndarray, tangent: np.ndarray, reach: float):
        """Lower the distances of a spinning LiDAR's image to the ground; owner becomes -2.

        Each azimuth is one profile of the ground; a beam ends where the running maximum of the
        profile's slope, seen from the sensor, first reaches the beam's.

        Args:
            image: changed in place; rows are beams.
            azimuth: [W] radians.
            tangent: [H] tangent of the beams' elevation.
            reach: metres.
        """
        r = np.geomspace(1.5, reach * 1.05, 560).astype(np.float32)
        x = r * np.cos(azimuth)[:, None].astype(np.float32)
        y = r * np.sin(azimuth)[:, None].astype(np.float32)
        z = self.height(x, y)
        slope = z / r
        crest = np.maximum.accumulate(slope, axis=1)
        tangent = np.asarray(tangent, np.float32)
        first = np.stack([np.searchsorted(row, tangent) for row in crest])
        hit = (first > 0) & (first < len(r))
        i = np.clip(first, 1, len(r) - 1)
        rows = np.arange(len(azimuth))[:, None]
        a, b = slope[rows, i - 1], slope[rows, i]
        share = np.clip((tangent - a) / np.where(b > a, b - a, 1), 0, 1)
        ranges = r[i - 1] + share * (r[i] - r[i - 1])
        rise = (z[rows, i] - z[rows, i - 1]) / (r[i] - r[i - 1])
        scale = np.sqrt(1 + tangent * tangent)
        cosine = np.abs(tangent - rise) / scale / np.sqrt(1 + rise * rise)
        image.distance[:] = np.where(hit, ranges * scale, np.inf).T
        image.cosine[:] = cosine.T
        image.owner[hit.T] = -2
