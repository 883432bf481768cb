"""Small things of rooms, all of class other: lamps, plants, boxes, screens, people."""

import numpy as np

from sparseconv.datasets.labels import ROOMS
from sparseconv.datasets.procedural.solid import Solid, box, ellipsoid, frustum, place, rod, rounded

OTHER = ROOMS.index("other")


def _colour(rng):
    return tuple(rng.uniform(0.08, 0.92, 3))


def floor_lamp(rng: np.random.Generator) -> list[Solid]:
    """Return a standing lamp with an open shade."""
    h, r = rng.uniform(1.2, 1.8), rng.uniform(0.13, 0.25)
    shade = rng.uniform(0.2, 0.35)
    pole = _colour(rng)
    parts = [
        frustum((0, 0, 0), 0.14, 0.13, 0.025, OTHER, colour=pole),
        rod((0, 0, 0), (0, 0, h), rng.uniform(0.01, 0.03), OTHER, colour=pole),
        frustum(
            (0, 0, h - shade * 0.8),
            r,
            r * rng.uniform(0.6, 1.0),
            shade,
            OTHER,
            hollow=True,
            colour=(0.9, 0.8, 0.6),
        ),
    ]
    if rng.random() < 0.25:
        lean = np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), h + 0.3])
        parts[2] = ellipsoid(lean, (0.15, 0.15, 0.1), OTHER, colour=(0.8, 0.8, 0.8))
        parts.append(rod((0, 0, h), lean, 0.012, OTHER, colour=pole))
    return parts


def table_lamp(rng: np.random.Generator) -> list[Solid]:
    """Return a lamp of 30-60 cm for a table or a board."""
    h, r = rng.uniform(0.15, 0.35), rng.uniform(0.08, 0.18)
    return [
        frustum(
            (0, 0, 0),
            rng.uniform(0.05, 0.1),
            rng.uniform(0.02, 0.05),
            h,
            OTHER,
            colour=_colour(rng),
        ),
        frustum(
            (0, 0, h),
            r,
            r * rng.uniform(0.5, 1.0),
            r * 1.3,
            OTHER,
            hollow=True,
            colour=(0.9, 0.85, 0.7),
        ),
    ]


def plant(rng: np.random.Generator, size: float = 1.0) -> list[Solid]:
    """Return a potted plant, `size` metres tall: a pot, stems and porous leaves."""
    pot = 0.22 * size + 0.03
    parts = [frustum((0, 0, 0), pot * 0.35, pot * 0.55, pot, OTHER, colour=_colour(rng))]
    for _ in range(rng.integers(2, 6)):
        tip = np.array([*rng.normal(0, 0.16 * size, 2), rng.uniform(0.5, 0.9) * size])
        green = (0.1 + 0.2 * rng.random(), 0.35 + 0.3 * rng.random(), 0.12)
        parts.append(rod((0, 0, pot * 0.8), tip, 0.008, OTHER, colour=green))
        half = rng.uniform(0.08, 0.22, 3) * size
        parts.append(ellipsoid(tip, half, OTHER, colour=green, free_path=0.12 * size))
    return parts


def screen(rng: np.random.Generator) -> list[Solid]:
    """Return a monitor or television on its foot."""
    w = rng.uniform(0.4, 1.2)
    h, z = w * 0.58, rng.uniform(0.05, 0.14)
    black = (0.05, 0.05, 0.06)
    return [
        box((-w / 2, -0.02, z), (w / 2, 0.02, z + h), OTHER, colour=black),
        rod((0, -0.02, 0), (0, -0.02, z + 0.05), 0.02, OTHER, colour=black),
        box((-w * 0.2, -0.1, 0), (w * 0.2, 0.1, 0.015), OTHER, colour=black),
    ]


def carton(rng: np.random.Generator) -> list[Solid]:
    """Return a box, a speaker, a heap of books, or a bin."""
    kind = rng.random()
    if kind < 0.4:
        half = rng.uniform(0.08, 0.3, 3)
        return [
            box(
                (-half[0], -half[1], 0), (half[0], half[1], 2 * half[2]), OTHER, colour=_colour(rng)
            )
        ]
    if kind < 0.6:
        w, h = rng.uniform(0.09, 0.16), rng.uniform(0.3, 1.1)
        return [box((-w, -w * 1.3, 0), (w, w * 1.3, h), OTHER, colour=(0.12, 0.1, 0.09))]
    if kind < 0.8:
        return [
            frustum(
                (0, 0, 0),
                0.12,
                0.16,
                rng.uniform(0.25, 0.6),
                OTHER,
                hollow=True,
                colour=_colour(rng),
            )
        ]
    return [
        rounded(
            (-0.25, -0.25, 0),
            (0.25, 0.25, rng.uniform(0.3, 0.45)),
            0.12,
            OTHER,
            colour=_colour(rng),
        )
    ]


def trinkets(rng: np.random.Generator, w: float, d: float) -> list[Solid]:
    """Return what lies on a top of `w` by `d` metres, standing on z = 0, y from 0 to d."""
    parts = []
    for _ in range(rng.integers(0, 6)):
        kind = rng.random()
        if kind < 0.25:
            item = [
                frustum(
                    (0, 0, 0),
                    0.035,
                    rng.uniform(0.03, 0.06),
                    rng.uniform(0.08, 0.3),
                    OTHER,
                    colour=_colour(rng),
                )
            ]
        elif kind < 0.5:
            half = (rng.uniform(0.05, 0.15), rng.uniform(0.05, 0.12), rng.uniform(0.01, 0.06))
            item = [
                box(
                    (-half[0], -half[1], 0),
                    (half[0], half[1], 2 * half[2]),
                    OTHER,
                    colour=_colour(rng),
                )
            ]
        elif kind < 0.65:
            item = [ellipsoid((0, 0, 0.05), (0.12, 0.12, 0.06), OTHER, colour=_colour(rng))]
        elif kind < 0.75:
            item = table_lamp(rng)
        elif kind < 0.85:
            item = plant(rng, rng.uniform(0.25, 0.5))
        else:
            item = screen(rng)
        x = rng.uniform(-w / 2 + 0.12, max(w / 2 - 0.12, 0.13 - w / 2))
        parts += place(item, x, rng.uniform(0.1, max(d - 0.1, 0.11)), 0, rng.normal(0, 0.4))
    return parts


def person(rng: np.random.Generator, label: int = OTHER) -> list[Solid]:
    """Return a standing or walking person facing +y."""
    h = rng.uniform(1.5, 1.9)
    step = rng.uniform(0, 0.3)
    shirt, trousers, skin = _colour(rng), _colour(rng), (0.75, 0.58, 0.47)
    hip, shoulder = 0.5 * h, 0.82 * h
    parts = [
        ellipsoid((0, 0, 0.93 * h), (0.085, 0.1, 0.075 * h), label, colour=skin),
        rounded((-0.2, -0.12, hip), (0.2, 0.12, shoulder + 0.04), 0.1, label, colour=shirt),
    ]
    for side in (-1, 1):
        swing = step * side
        foot = (0.1 * side, swing, 0.05)
        parts.append(rod((0.09 * side, 0, hip), foot, 0.075, label, colour=trousers))
        parts.append(
            rounded(
                np.array(foot) - (0.05, 0.06, 0.05),
                np.array(foot) + np.array([0.05, 0.18, 0.04]),
                0.03,
                label,
                colour=(0.1, 0.1, 0.1),
            )
        )
        elbow = np.array([0.27 * side, -swing * 0.5, 0.62 * h])
        parts.append(rod((0.21 * side, 0, shoulder), elbow, 0.05, label, colour=shirt))
        hand = elbow + np.array([0, rng.uniform(0, 0.25), -rng.uniform(0.05, 0.25)])
        parts.append(rod(elbow, hand, 0.04, label, colour=skin))
    return parts
