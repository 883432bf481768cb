"""The shell of a room: floor, ceiling, walls with openings, and what hangs on the walls."""

from dataclasses import dataclass

import numpy as np

from sparseconv.datasets.labels import ROOMS
from sparseconv.datasets.procedural.solid import box, place, rod

FLOOR, WALL, CEILING = ROOMS.index("floor"), ROOMS.index("wall"), ROOMS.index("ceiling")
CABINET, OTHER = ROOMS.index("cabinet"), ROOMS.index("other")
THICK = 0.14


@dataclass(frozen=True, slots=True)
class Wall:
    """One straight wall: interior on the left of `start` to `end`.

    Args:
        start: [2] metres.
        end: [2] metres.
        convex: whether the corners at start and end are ordinary (not re-entrant) ones.
    """

    start: np.ndarray
    end: np.ndarray
    convex: tuple[bool, bool]

    @property
    def length(self) -> float:
        """Length in metres."""
        return float(np.linalg.norm(self.end - self.start))

    @property
    def yaw(self) -> float:
        """Heading of the wall, radians."""
        along = self.end - self.start
        return float(np.arctan2(along[1], along[0]))

    def put(self, solids, along: float, height: float = 0.0, turn: float = 0.0, gap: float = 0.0):
        """Stand solids with their back to this wall, `along` metres from its start."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        x, y = self.start + np.array([c, s]) * along + np.array([-s, c]) * gap
        return place(solids, x, y, height, self.yaw + turn)


def outline(rng: np.random.Generator) -> np.ndarray:
    """Return the corners of a room, counter-clockwise, [4 or 6, 2] metres; first is the origin."""
    w, d = rng.uniform(2.6, 7.0), rng.uniform(2.4, 5.5)
    if rng.random() < 0.3 and w > 3.5 and d > 3.2:
        a, b = w * rng.uniform(0.35, 0.7), d * rng.uniform(0.35, 0.7)
        return np.array([(0, 0), (w, 0), (w, b), (a, b), (a, d), (0, d)])
    return np.array([(0, 0), (w, 0), (w, d), (0, d)])


def walls_of(polygon: np.ndarray) -> list[Wall]:
    """Return the walls of a counter-clockwise polygon."""
    following = np.roll(polygon, -1, 0)
    edge = following - polygon
    before = np.roll(edge, 1, 0)
    convex = before[:, 0] * edge[:, 1] - before[:, 1] * edge[:, 0] > 0
    return [
        Wall(polygon[i], following[i], (bool(convex[i]), bool(convex[(i + 1) % len(polygon)])))
        for i in range(len(polygon))
    ]


def _holed(openings, half_length: float, half_height: float):
    """Return the depth function of a wall: inf inside its openings."""

    def depth(x, z):
        out = np.zeros(x.shape, np.float32)
        for left, right, low, high in openings:
            u, v = x + half_length, z + half_height
            out[(u > left) & (u < right) & (v > low) & (v < high)] = np.inf
        return out

    return depth


def _opening(rng, wall: Wall, height: float, colour, backdrop):
    """Return a door or window: its rectangle, whether one can pass, and its solids."""
    door = rng.random() < 0.45
    if door:
        w, low, high = rng.uniform(0.75, 1.1), 0.0, min(rng.uniform(1.95, 2.2), height - 0.1)
    elif rng.random() < 0.3:
        w, low, high = rng.uniform(1.4, 2.6), 0.05, min(rng.uniform(2.0, 2.3), height - 0.1)
    else:
        w, low = rng.uniform(0.6, 2.0), rng.uniform(0.5, 1.1)
        high = min(low + rng.uniform(0.7, 1.5), height - 0.15)
    if w + 0.5 > wall.length:
        return None
    left = rng.uniform(0.2, wall.length - w - 0.2)
    right = left + w
    white = (0.9, 0.9, 0.88)
    t, trim = rng.uniform(0.04, 0.1), rng.uniform(0.0, 0.03)
    look = {"colour": white}
    # reveals and the trim around the opening
    parts = [
        box((left - t, -THICK, low - 0.02), (left, trim, high + t), WALL, **look),
        box((right, -THICK, low - 0.02), (right + t, trim, high + t), WALL, **look),
        box((left, -THICK, high), (right, trim, high + t), WALL, **look),
    ]
    if low > 0.02:
        parts.append(
            box((left - 0.05, -THICK, low - 0.04), (right + 0.05, trim + 0.03, low), WALL, **look)
        )
    kind = rng.random()
    if kind < 0.45:
        back = -rng.uniform(0.02, 0.1)
        parts.append(
            box(
                (left, back - 0.04, low),
                (right, back, high),
                WALL,
                colour=colour,
                pattern="wood" if door else "plain",
            )
        )
        if door:
            x = left + 0.08
            parts.append(rod((x, back, 1.02), (x, back + 0.06, 1.02), 0.012, WALL, colour=white))
            parts.append(
                rod((x, back + 0.06, 1.02), (x + 0.11, back + 0.06, 1.02), 0.01, WALL, colour=white)
            )
    if not door and kind < 0.8:
        for x in np.linspace(left, right, rng.integers(2, 5)):
            parts.append(box((x - 0.03, -0.1, low), (x + 0.03, -0.05, high), WALL, **look))
    if kind > 0.35:
        backdrop.append((wall, left, right, rng.uniform(0.7, 2.5)))
    if not door and rng.random() < 0.5:
        parts += _curtains(rng, left, right, low, high, height)
    return (left, right, low, high), parts


def _curtains(rng, left, right, low, high, height):
    parts = []
    top = min(high + rng.uniform(0.05, 0.25), height - 0.03)
    foot = 0.04 if rng.random() < 0.6 else max(low - 0.15, 0.03)
    wave, pitch = rng.uniform(0.02, 0.05), rng.uniform(0.09, 0.2)
    phase, colour = rng.uniform(0, 6), tuple(rng.uniform(0.4, 0.95, 3))
    spread = (right - left) * rng.uniform(0.15, 0.5)

    def folds(x, z):
        return wave * (1 + np.sin(x * (2 * np.pi / pitch) + phase + 0.4 * z)).astype(np.float32)

    for a, b in ((left - 0.15, left - 0.15 + spread), (right + 0.15 - spread, right + 0.15)):
        parts.append(
            box((a, 0.05, foot), (b, 0.06 + 2 * wave, top), OTHER, colour=colour, surface=folds)
        )
    parts.append(
        rod((left - 0.3, 0.08, top), (right + 0.3, 0.08, top), 0.015, OTHER, colour=colour)
    )
    return parts


def _hangings(rng, wall: Wall, height: float, openings):
    """Return pictures, pilasters, radiators, wall shelves and screens between the openings."""
    parts = []
    for _ in range(rng.integers(0, 4)):
        kind = rng.random()
        w = rng.uniform(0.25, 1.4) if kind < 0.7 else rng.uniform(0.5, 1.3)
        if w + 0.3 > wall.length:
            continue
        left = rng.uniform(0.1, wall.length - w - 0.1)
        if any(left < r + 0.1 and left + w > le - 0.1 for le, r, _, _ in openings):
            continue
        if kind < 0.6:
            z, h, frame = rng.uniform(0.9, 1.5), rng.uniform(0.3, 0.9), rng.uniform(0.02, 0.08)
            deep = rng.uniform(0.015, 0.045)
            brown = (0.3, 0.18, 0.1)
            parts.append(box((left, 0, z), (left + w, deep * 0.6, z + h), WALL, pattern="picture"))
            for a, b in (
                ((left, z), (left + w, z + frame)),
                ((left, z + h - frame), (left + w, z + h)),
                ((left, z), (left + frame, z + h)),
                ((left + w - frame, z), (left + w, z + h)),
            ):
                parts.append(box((a[0], 0, a[1]), (b[0], deep, b[1]), WALL, colour=brown))
        elif kind < 0.7:
            w = rng.uniform(0.15, 0.6)
            deep = rng.uniform(0.05, 0.4)
            parts.append(box((left, 0, 0), (left + w, deep, height), WALL, colour=(0.8, 0.8, 0.78)))
        elif kind < 0.8:
            ribs = np.arange(left, left + w, 0.06)
            parts += [
                box((x, 0.03, 0.12), (x + 0.045, 0.11, 0.62), OTHER, colour=(0.9, 0.9, 0.9))
                for x in ribs
            ]
        elif kind < 0.92:
            z, d = rng.uniform(1.0, 1.7), rng.uniform(0.15, 0.35)
            parts.append(
                box((left, 0, z), (left + w, d, z + 0.025), CABINET, colour=(0.6, 0.45, 0.3))
            )
            x = left + 0.05
            while x < left + w - 0.15:
                wide = rng.uniform(0.04, 0.2)
                parts.append(
                    box(
                        (x, 0.02, z + 0.025),
                        (x + wide, d * 0.8, z + rng.uniform(0.1, 0.3)),
                        CABINET,
                        colour=tuple(rng.random(3)),
                    )
                )
                x += wide + rng.exponential(0.08)
        else:
            z = rng.uniform(0.8, 1.2)
            parts.append(
                box(
                    (left, 0.02, z),
                    (left + w, 0.08, z + w * 0.57),
                    OTHER,
                    colour=(0.04, 0.04, 0.05),
                )
            )
    return parts


def shell(rng: np.random.Generator, polygon: np.ndarray, height: float):
    """Return the solids of floor, ceiling and walls, and the openings of each wall."""
    low, high = polygon.min(0) - 6, polygon.max(0) + 6
    paint = np.array([0.82, 0.8, 0.75]) + rng.normal(0, 0.08, 3)
    wood = tuple((np.array([0.6, 0.4, 0.22]) + rng.normal(0, 0.1, 3)).clip(0.05, 0.95))
    solids = [
        box((low[0], low[1], -0.2), (high[0], high[1], 0.0), FLOOR, colour=wood, pattern="wood"),
        box(
            (low[0], low[1], height),
            (high[0], high[1], height + 0.2),
            CEILING,
            colour=(0.9, 0.9, 0.9),
        ),
    ]
    backdrop, all_openings = [], []
    walls = walls_of(polygon)
    skirting = rng.uniform(0.05, 0.14) if rng.random() < 0.7 else 0.0
    for wall in walls:
        colour = tuple((paint + rng.normal(0, 0.03, 3)).clip(0.1, 0.98))
        openings, parts = [], []
        for _ in range(rng.choice(3, p=(0.35, 0.5, 0.15))):
            made = _opening(rng, wall, height, wood, backdrop)
            if made and all(
                made[0][0] > r + 0.2 or made[0][1] < le - 0.2 for le, r, _, _ in openings
            ):
                openings.append(made[0])
                parts += made[1]
        parts += _hangings(rng, wall, height, openings)
        a = -THICK if wall.convex[0] else 0.0
        b = wall.length + (THICK if wall.convex[1] else 0.0)
        holes = [(le - a, r - a, lo, hi) for le, r, lo, hi in openings]
        surface = _holed(holes, (b - a) / 2, height / 2) if holes else None
        body = box((a, -THICK, 0), (b, 0, height), WALL, colour=colour, surface=surface)
        parts.append(body)
        if skirting:
            edges = [
                0.0,
                *[e for le, r, lo, _ in sorted(openings) if lo < 0.1 for e in (le, r)],
                wall.length,
            ]
            for left, right in zip(edges[::2], edges[1::2], strict=True):
                if right > left:
                    parts.append(
                        box((left, 0, 0), (right, 0.015, skirting), WALL, colour=(0.88, 0.88, 0.86))
                    )
        solids += wall.put(parts, 0.0)
        all_openings.append(openings)
    for wall, left, right, away in backdrop:
        brick = box(
            (left - 3, -away - 0.1, -0.2),
            (right + 3, -away, height),
            WALL,
            colour=(0.6, 0.35, 0.28),
            pattern="brick",
        )
        solids += wall.put([brick], 0.0)
    return solids, walls, all_openings
