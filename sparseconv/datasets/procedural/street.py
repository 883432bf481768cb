"""Streets as a spinning LiDAR on a car's roof sees them."""

import numpy as np

from sparseconv.datasets.labels import STREETS
from sparseconv.datasets.procedural import roadside, vehicle
from sparseconv.datasets.procedural.clutter import person
from sparseconv.datasets.procedural.ground import TERRAIN, Ground, Road
from sparseconv.datasets.procedural.raycast import RayImage, cast, corners
from sparseconv.datasets.procedural.solid import Solid, place
from sparseconv.datasets.procedural.view import SpinView
from sparseconv.io.point_cloud import PointCloud

PERSON = STREETS.index("person")
GROUND_REFLECTIVITY = np.array([0.33, 0.40, 0.42])


class Site:
    """A street being built: keeps solids, sets them on the ground, keeps footprints apart.

    Args:
        rng: source of randomness.
        ground: the ground.
        reach: metres around the sensor worth building.
    """

    def __init__(self, rng: np.random.Generator, ground: Ground, reach: float):
        self.rng, self.ground, self.reach = rng, ground, reach
        self.solids: list[Solid] = []
        self.taken: list[tuple[float, float, float]] = [(0.0, 0.0, 3.0)]

    def edge(self, x: float, y: float) -> float:
        """Return the distance of a place from the nearest road edge, metres."""
        return float(self.ground.outside(np.array([x], np.float32), np.array([y], np.float32))[0])

    def set(self, parts, x: float, y: float, yaw: float, room: float = 0.0) -> bool:
        """Stand parts on the ground; with `room` metres of radius they must not meet others."""
        if np.hypot(x, y) > self.reach:
            return False
        if room:
            if any(np.hypot(x - a, y - b) < room + c for a, b, c in self.taken):
                return False
            self.taken.append((x, y, room))
        z = float(self.ground.height(np.array([x], np.float32), np.array([y], np.float32))[0])
        self.solids += place(parts, x, y, z, yaw)
        return True


def _row(site: Site, road: Road, side: int, offset: float, margin: float):
    """Yield free stretches of a line beside a road: (start, length) in metres along it."""
    rng = site.rng
    along = (0.0 if road.stop else -site.reach) + rng.uniform(0, 8)
    while along < site.reach:
        length = rng.uniform(4, 22)
        spots = [road.beside(along + t, side * offset) for t in np.linspace(0, length, 4)]
        if all(site.edge(x, y) > margin for x, y, _ in spots):
            yield along, length
        along += length + rng.exponential(3.0)


def _along(road: Road, side: int, offset: float, along: float, length: float):
    """Return (x, y, yaw) that lays local x along the road with local +y away from it."""
    begin = road.beside(along if side > 0 else along + length, side * offset)
    end = road.beside(along + length if side > 0 else along, side * offset)
    yaw = np.arctan2(end[1] - begin[1], end[0] - begin[0])
    return begin[0], begin[1], float(yaw)


def _lots(site: Site, road: Road, side: int):
    """Build one side of a road: facades, and gardens behind fences or hedges."""
    rng, ground = site.rng, site.ground
    setback = (
        ground.strip
        + {"town": rng.uniform(0, 2.5), "suburb": rng.uniform(2, 9), "rural": rng.uniform(5, 20)}[
            ground.style
        ]
    )
    share = {"town": 0.85, "suburb": 0.7, "rural": 0.25}[ground.style]
    base = road.half
    if rng.random() < 0.12:
        share = 0.0
    for along, length in _row(site, road, side, base + setback + 4, setback * 0.6):
        if rng.random() < share:
            jitter = rng.choice((0.0, rng.uniform(0, 3)))
            x, y, yaw = _along(road, side, base + setback + jitter, along, length)
            site.set(roadside.building(rng, length), x, y, yaw)
        elif rng.random() < 0.6:
            x, y, yaw = _along(road, side, base + setback, along, length)
            for _ in range(rng.integers(2, 8)):
                u, v = rng.uniform(0, length), rng.uniform(0, 8)
                c, s = np.cos(yaw), np.sin(yaw)
                spot = x + c * u - s * v, y + s * u + c * v
                if site.edge(*spot) > ground.strip + 1:
                    make = roadside.tree if rng.random() < 0.5 else roadside.bush
                    site.set(make(rng), *spot, rng.uniform(-3, 3))
    if setback < ground.strip + 1.0 and rng.random() < 0.8:
        return
    line = ground.strip + rng.uniform(0.1, 0.8)
    for along, length in _row(site, road, side, base + line + 0.3, line * 0.8):
        kind = rng.random()
        make = roadside.fence if kind < 0.28 else roadside.hedge if kind < 0.75 else None
        if make:
            x, y, yaw = _along(road, side, base + line, along, length)
            site.set(make(rng, length), x, y, yaw)


def _strip(site: Site, road: Road, side: int):
    """Fill the strip between the curb and the lots: trees, poles, people, bins, bushes."""
    rng, ground = site.rng, site.ground
    begin = 0.0 if road.stop else -site.reach
    wide = max(ground.strip, 1.5)
    trees = rng.random() < (0.5 if ground.style != "rural" else 0.7)
    spacing = rng.uniform(6, 16)
    near = rng.uniform(0.4, 1.2)
    for along in np.arange(begin, site.reach, spacing) + rng.uniform(0, spacing):
        x, y, yaw = road.beside(along + rng.normal(0, 0.5), side * (road.half + near))
        if (
            trees
            and site.edge(x, y) > near * 0.6
            and rng.random() < 0.85
            and site.set(roadside.tree(rng), x, y, yaw, 0.6)
            and rng.random() < 0.3
        ):
            x, y, yaw = _along(road, side, road.half + near - 0.4, along - 1.5, 3.0)
            site.set(roadside.hedge(rng, 3.0), x, y, yaw)
    for _ in range(rng.integers(2, 12)):
        along = rng.uniform(begin, site.reach)
        x, y, yaw = road.beside(along, side * (road.half + rng.uniform(0.2, 0.8)))
        if site.edge(x, y) > 0.1:
            site.set(roadside.pole(rng), x, y, yaw + rng.choice((0, np.pi)), 0.4)
    for _ in range(rng.integers(0, 9)):
        along = rng.uniform(begin, site.reach) * rng.uniform(0.2, 1)
        x, y, yaw = road.beside(along, side * (road.half + rng.uniform(0.3, wide + 1)))
        if site.edge(x, y) > 0.1:
            kind = rng.random()
            if kind < 0.4:
                parts = person(rng, PERSON)
            elif kind < 0.6:
                parts = vehicle.bicycle(rng)
            elif kind < 0.85:
                parts = roadside.street_object(rng)
            else:
                parts = roadside.bush(rng)
            site.set(parts, x, y, rng.uniform(-np.pi, np.pi) if kind < 0.4 else yaw, 0.7)


def _traffic(site: Site, road: Road):
    """Put cars on the lanes and along the curbs."""
    rng = site.rng
    begin = 6.0 if road.stop else -site.reach
    for side in (-1, 1):
        full = rng.choice((0.0, 0.25, 0.7), p=(0.25, 0.4, 0.35))
        # half on the sidewalk, along the curb, or in bays across
        shift = rng.choice((0.0, 0.6, -1.0), p=(0.2, 0.2, 0.6))
        across = rng.random() < 0.12
        along = begin + rng.uniform(0, 6)
        while along < site.reach:
            if rng.random() < full:
                x, y, yaw = road.beside(along, side * (road.half + shift + (1.8 if across else 0)))
                turn = np.pi / 2 if across else rng.normal(0, 0.02)
                if site.edge(x, y) > -3.0:
                    site.set(
                        vehicle.vehicle(rng),
                        x,
                        y,
                        yaw + turn + rng.choice((0, np.pi)),
                        1.3 if across else 2.2,
                    )
            along += rng.uniform(2.6, 3.2) if across else rng.uniform(5.2, 7.5)
        for _ in range(rng.integers(0, 4)):
            along = rng.uniform(begin, site.reach)
            x, y, yaw = road.beside(along, -side * road.half * 0.45)
            if np.hypot(x, y) > 7:
                site.set(vehicle.vehicle(rng), x, y, yaw + (np.pi if side < 0 else 0), 2.6)
    for _ in range(rng.integers(0, 3)):
        x, y, yaw = road.beside(
            rng.uniform(begin, site.reach) * 0.5, rng.uniform(-1, 1) * road.half
        )
        parts = vehicle.bicycle(rng, True) if rng.random() < 0.6 else person(rng, PERSON)
        site.set(parts, x, y, yaw + rng.choice((0, np.pi)), 1.0)


def build_street(rng: np.random.Generator, height: float, reach: float = 85.0):
    """Return the ground and the solids of a random street around the sensor."""
    ground = Ground(rng, height)
    site = Site(rng, ground, reach)
    for road in ground.roads:
        _traffic(site, road)
    for road in ground.roads:
        for side in (-1, 1):
            _strip(site, road, side)
            _lots(site, road, side)
    for _ in range(rng.integers(5, 60)):
        r, a = reach * np.sqrt(rng.uniform(0.02, 1)), rng.uniform(-np.pi, np.pi)
        x, y = r * np.cos(a), r * np.sin(a)
        if site.edge(x, y) > ground.strip + 3:
            kind = rng.random()
            make = roadside.tree if kind < 0.6 else roadside.bush if kind < 0.9 else vehicle.car
            site.set(make(rng), x, y, rng.uniform(-np.pi, np.pi), 1.5)
    return ground, _unburied(site)


def _unburied(site: Site) -> list[Solid]:
    """Return the solids that do not stand on a road by mistake or enclose the sensor."""
    hull = corners(site.solids)
    low, high = hull.min(1), hull.max(1)
    around = (low[:, 0] < 1.5) & (high[:, 0] > -1.5) & (low[:, 1] < 1.2) & (high[:, 1] > -1.2)
    return [s for s, bad in zip(site.solids, around, strict=True) if not bad]


def beam_angles(rng: np.random.Generator, beams: int) -> np.ndarray:
    """Return the elevations of a 64-beam or 32-beam sensor, high to low, radians."""
    if beams == 32:
        angles = np.linspace(10.67, -30.67, 32)
    else:
        angles = np.concatenate([np.linspace(2.4, -8.0, 32), np.linspace(-8.5, -24.0, 32)])
        angles += rng.normal(0, 0.25) + rng.normal(0, 0.04, 64)
    return np.radians(np.sort(angles)[::-1])


def _azimuth(image: RayImage, rays: np.ndarray) -> np.ndarray:
    x, y = image.directions[:2].reshape(2, -1)[:, rays]
    return np.arctan2(y, x)


def _returns(rng, image: RayImage, solids, ground: Ground, noise: float, reach: float):
    """Turn hits into returns: flat numbers of the rays kept, their labels and intensities."""
    owner, distance = image.owner.reshape(-1), image.distance.reshape(-1)
    hit = np.flatnonzero(np.isfinite(distance) & (owner != -1))
    row, t, cosine = owner[hit], distance[hit], image.cosine.reshape(-1)[hit]
    xyz = image.points(hit)
    below = ground.classes(xyz[:, 0], xyz[:, 1])
    solid_label = np.array([s.label for s in solids], np.int32)
    label = np.where(row == -2, below, solid_label[row])
    solid_shine = np.array([s.reflectivity for s in solids])
    shine = np.where(row == -2, GROUND_REFLECTIVITY[np.clip(below, 0, 2)], solid_shine[row])
    lost = np.where(row == -2, 0.0, np.array([s.dropout for s in solids])[row])
    # blades of grass stop the ray above the soil
    grass = (row == -2) & (label == TERRAIN)
    steep = np.maximum(np.abs(image.directions[2].reshape(-1)[hit]), 0.12)
    t = t - grass * rng.exponential(ground.grass, len(t)) / steep
    signal = shine * (0.15 + 0.85 * cosine) / (0.02 + (t / 80) ** 2)
    # the car below hides part of the lowest beams
    shadow = np.sin(_azimuth(image, hit) * np.arange(1, 5)[:, None] + rng.uniform(0, 6.3, (4, 1)))
    lowest = image.directions[2].reshape(-1)[hit] < -0.43 + 0.03 * shadow.sum(0)
    lost = np.where(lowest & (row == -2) & (rng.random() < 0.7), 1.0, lost)
    lost = 1 - (1 - lost) * (1 - np.exp(-signal / 0.05)) * 0.985
    # each laser has its own error of range, which roughens what several beams see
    bias = rng.normal(0, rng.uniform(0.01, 0.06), image.distance.shape[0])
    t = t + rng.normal(0, noise, len(t)) + bias[hit // image.distance.shape[1]]
    keep = (rng.random(len(t)) > lost) & (t > 2.0) & (t < reach)
    gain = rng.uniform(0.8, 1.25)
    light = gain * shine * (0.55 + 0.45 * np.sqrt(cosine)) * rng.normal(1, 0.15, len(t))
    light = np.where((shine > 0.9) & (rng.random(len(t)) < 0.6), 0.99, light)
    rays = hit[keep]
    image.distance.reshape(-1)[rays] = t[keep]
    return rays, label[keep], np.round(light[keep].clip(0, 0.99), 2).astype(np.float32)


def generate_street(seed: int, *, beams: int | None = None, steps: int | None = None) -> PointCloud:
    """Return one labelled LiDAR scan of a street.

    Args:
        seed: the same seed gives the same scan, bit for bit.
        beams: 64 or 32; None draws it, 64 nine times out of ten.
        steps: azimuth steps of a turn; None is what the sensor usually has, about 2000 or 1000.

    Returns:
        Cloud in metres, sensor at the origin about 1.73 m over the road, x ahead, z up, ordered
        beam by beam from the top, with attributes intensity float32 [N] and label int32 [N] of
        `STREETS`.
    """
    rng = np.random.default_rng([seed, 2])
    beams = beams or (64 if rng.random() < 0.9 else 32)
    steps = steps or (int(rng.integers(1950, 2170)) if beams == 64 else 1085)
    reach = 80.0
    ground, solids = build_street(rng, rng.normal(1.73 if beams == 64 else 1.84, 0.06))
    view = SpinView(beam_angles(rng, beams), steps)
    image = view.rays()
    ground.cast(image, view.azimuth, np.tan(view.elevation), reach)
    cast(image, solids, view.windows(solids, reach), rng)
    rays, label, intensity = _returns(rng, image, solids, ground, rng.uniform(0.005, 0.02), reach)
    xyz = image.points(rays).astype(np.float32).astype(np.float64)
    return PointCloud(xyz, {"intensity": intensity, "label": label.astype(np.int32)}, {})
