"""Vehicles: nose towards +x, wheels on z = 0, centred on the origin."""

import itertools

import numpy as np

from sparseconv.datasets.labels import STREETS
from sparseconv.datasets.procedural.clutter import person
from sparseconv.datasets.procedural.solid import Solid, box, place, prism, rod, rounded

VEHICLE, PERSON = STREETS.index("vehicle"), STREETS.index("person")


def _wheels(xs, width: float, radius: float) -> list[Solid]:
    return [
        rod(
            (x, side * width / 2, radius),
            (x, side * (width / 2 - 0.22), radius),
            radius,
            VEHICLE,
            reflectivity=0.06,
        )
        for x in xs
        for side in (-1, 1)
    ]


def car(rng: np.random.Generator) -> list[Solid]:
    """Return a hatchback, saloon, estate or off-roader."""
    length, width = rng.uniform(3.6, 4.9), rng.uniform(1.62, 1.9)
    height, clear = rng.uniform(1.4, 1.75), rng.uniform(0.16, 0.28)
    belt = height * rng.uniform(0.58, 0.66)
    a, b = length / 2, -length / 2
    dark = rng.random() < 0.45
    paint = {
        "reflectivity": rng.uniform(0.04, 0.1) if dark else rng.uniform(0.2, 0.5),
        "dropout": rng.uniform(0.05, 0.35) if dark else rng.uniform(0, 0.1),
    }
    glass = {"reflectivity": 0.08, "dropout": rng.uniform(0.3, 0.7)}
    hood = belt - rng.uniform(0.05, 0.2)
    tail = belt - rng.uniform(0.0, 0.08)
    lower = [
        (b + 0.08, clear),
        (a - 0.1, clear),
        (a, clear + 0.2),
        (a - 0.04, hood - 0.18),
        (a - rng.uniform(0.15, 0.4), hood),
        (a - length * 0.28, belt),
        (b + 0.15, tail),
        (b, tail - 0.2),
        (b + 0.02, clear + 0.2),
    ]
    screen = a - length * rng.uniform(0.22, 0.3)
    back = b + rng.choice((rng.uniform(0.05, 0.25), rng.uniform(0.4, 0.9)))
    rake, lean = rng.uniform(0.5, 0.9), rng.uniform(0.15, 0.6)
    cabin = [
        (back, belt - 0.02),
        (screen, belt - 0.02),
        (screen - rake, height - 0.05),
        (screen - rake - 0.25, height),
        (back + lean + 0.1, height - 0.02),
        (back + lean, height - 0.06),
    ]
    roof = [
        (back + lean, height - 0.09),
        (screen - rake, height - 0.09),
        (screen - rake - 0.2, height + 0.005),
        (back + lean + 0.15, height - 0.01),
    ]
    parts = [
        prism(lower, width, VEHICLE, inset=rng.uniform(0.05, 0.15), **paint),
        prism(cabin, width - 0.12, VEHICLE, inset=rng.uniform(0.15, 0.28), **glass),
        prism(roof, width - 0.35, VEHICLE, inset=0.05, **paint),
    ]
    for side in (-1, 1):
        y = side * (width / 2 + 0.06)
        x = screen - 0.25
        parts.append(
            rounded((x - 0.06, y - 0.09, belt), (x + 0.06, y + 0.09, belt + 0.15), 0.04, VEHICLE)
        )
        for x in (a - 0.12, b + 0.02):
            y = side * (width / 2 - 0.25)
            parts.append(
                box(
                    (x, y - 0.13, hood - 0.2),
                    (x + 0.1, y + 0.13, hood - 0.08),
                    VEHICLE,
                    reflectivity=0.8,
                )
            )
    parts += _wheels(
        (a - rng.uniform(0.7, 0.9), b + rng.uniform(0.65, 0.9)), width, rng.uniform(0.29, 0.36)
    )
    return parts


def van(rng: np.random.Generator) -> list[Solid]:
    """Return a delivery van or a camper."""
    length, width, height = rng.uniform(4.5, 6.5), rng.uniform(1.8, 2.1), rng.uniform(1.9, 2.8)
    a, b, clear = length / 2, -length / 2, 0.25
    bright = {"reflectivity": rng.uniform(0.15, 0.6)}
    nose = rng.uniform(0.4, 1.0)
    shape = [
        (b, clear),
        (a - 0.05, clear),
        (a, 0.6),
        (a - 0.1, 1.0),
        (a - nose, min(1.25, height - 0.5)),
    ]
    hull = [(b, clear), (a - nose, clear), (a - nose, 1.2), (a - nose - 0.6, height), (b, height)]
    parts = [
        prism([*shape[1:], (b, 1.0), (b, clear)], width, VEHICLE, inset=0.04, **bright),
        prism(hull, width, VEHICLE, inset=0.2, **bright),
    ]
    return parts + _wheels((a - 0.85, b + 0.95), width, 0.34)


def truck(rng: np.random.Generator) -> list[Solid]:
    """Return a lorry with a box, or a bus."""
    if rng.random() < 0.4:
        length, height = rng.uniform(9, 13), rng.uniform(2.9, 3.3)
        look = {"reflectivity": rng.uniform(0.2, 0.5)}
        parts = [
            rounded((-length / 2, -1.25, 0.3), (length / 2, 1.25, 1.2), 0.12, VEHICLE, **look),
            rounded(
                (-length / 2, -1.25, 1.1),
                (length / 2, 1.25, height),
                0.12,
                VEHICLE,
                dropout=0.3,
                **look,
            ),
        ]
        return parts + _wheels((length / 2 - 2.6, -length / 2 + 2.8), 2.5, 0.48)
    length, height = rng.uniform(5.5, 10), rng.uniform(2.6, 3.7)
    a = length / 2
    parts = [
        rounded(
            (a - 1.9, -1.15, 0.4), (a, 1.15, min(height, 2.7)), 0.12, VEHICLE, reflectivity=0.3
        ),
        box(
            (-a, -1.22, 0.95), (a - 2.1, 1.22, height), VEHICLE, reflectivity=rng.uniform(0.2, 0.6)
        ),
        box((-a, -0.5, 0.6), (a - 1.5, 0.5, 0.95), VEHICLE, reflectivity=0.1),
    ]
    return parts + _wheels((a - 1.0, -a + 1.2, -a + 2.4), 2.4, 0.45)


def bicycle(rng: np.random.Generator, rider: bool | None = None) -> list[Solid]:
    """Return a bicycle or a motorcycle, with or without its rider."""
    heavy = rng.random() < 0.3
    r, thick = (0.3, 0.06) if heavy else (0.34, 0.02)
    gap = rng.uniform(0.48, 0.56)
    parts = []
    for x in (-gap, gap):
        # spokes let most rays through
        parts.append(
            rod((x, -thick, r), (x, thick, r), r, PERSON, free_path=0.03 if heavy else 0.25)
        )
        ring = np.linspace(0, 2 * np.pi, 9)
        for p, q in itertools.pairwise(ring):
            ends = [(x + r * np.cos(t), 0, r + r * np.sin(t)) for t in (p, q)]
            parts.append(rod(*ends, thick, PERSON, reflectivity=0.1))
    bars = [
        (-gap, r, 0.0, 0.85),
        (0.0, 0.85, gap, r + 0.1),
        (0.0, 0.3, gap - 0.1, 0.95),
        (-gap, r, 0.0, 0.3),
        (gap - 0.12, 1.02, gap, r),
    ]
    parts += [rod((a, 0, b), (c, 0, d), 0.025, PERSON) for a, b, c, d in bars]
    parts.append(rod((gap - 0.12, -0.28, 1.02), (gap - 0.12, 0.28, 1.02), 0.02, PERSON))
    parts.append(box((-0.15, -0.08, 0.85), (0.12, 0.08, 0.93), PERSON))
    if heavy:
        parts.append(rounded((-0.55, -0.16, 0.3), (0.4, 0.16, 0.85), 0.12, PERSON))
    if rng.random() < 0.5 if rider is None else rider:
        parts += place(person(rng, PERSON), 0, 0, 0.12 if heavy else 0.2, -np.pi / 2)
    return parts


def vehicle(rng: np.random.Generator) -> list[Solid]:
    """Return a random four-wheeled vehicle."""
    kind = rng.choice(3, p=(0.86, 0.1, 0.04))
    return (car, van, truck)[kind](rng)
