"""Chairs, sofas and beds: back at y = 0, front towards +y, on z = 0, centred on x."""

import itertools

import numpy as np

from sparseconv.datasets.labels import ROOMS
from sparseconv.datasets.procedural.paint import CLOTHS, WOODS, shade
from sparseconv.datasets.procedural.solid import box, place, rod, rounded, tilted

CHAIR, SOFA = ROOMS.index("chair"), ROOMS.index("sofa")


def _dining_chair(rng, colour):
    w, d, s = rng.uniform(0.38, 0.5), rng.uniform(0.38, 0.48), rng.uniform(0.42, 0.48)
    top = s + rng.uniform(0.35, 0.6)
    leg = rng.uniform(0.012, 0.025)
    parts = [
        rounded((-w / 2, 0, s - rng.uniform(0.03, 0.08)), (w / 2, d, s), 0.02, CHAIR, colour=colour)
    ]
    for sx in (-1, 1):
        x = sx * (w / 2 - leg)
        parts.append(
            rod((x, d - leg, 0), (x * 0.95, d - 2 * leg, s - 0.03), leg, CHAIR, colour=colour)
        )
        parts.append(rod((x, -0.04, 0), (x, leg, s), leg, CHAIR, colour=colour))
    lean = rng.uniform(0.0, 0.25)
    if rng.random() < 0.5:
        back = [
            rounded(
                (-w / 2, -0.02, s + rng.uniform(0, 0.2)),
                (w / 2, 0.02, top),
                0.015,
                CHAIR,
                colour=colour,
            )
        ]
    else:
        count = rng.integers(2, 5)
        back = [
            box((-w / 2, -0.015, z), (w / 2, 0.015, z + 0.06), CHAIR, colour=colour)
            for z in np.linspace(s + 0.12, top - 0.06, count)
        ]
    back += [
        box((x - leg, -leg, s - 0.05), (x + leg, leg, top), CHAIR, colour=colour)
        for x in (leg - w / 2, w / 2 - leg)
    ]
    parts += [tilted(b, 0, lean, (0, 0, s)) for b in back]
    return parts, (w, d)


def _office_chair(rng, colour):
    w, s = rng.uniform(0.44, 0.55), rng.uniform(0.42, 0.55)
    parts = [
        rounded((-w / 2, 0.02, s - 0.09), (w / 2, w, s), 0.04, CHAIR, colour=colour),
        rod((0, w / 2, 0.1), (0, w / 2, s - 0.05), 0.03, CHAIR, colour=(0.1, 0.1, 0.1)),
    ]
    turn = rng.uniform(0, 6)
    for a in turn + np.arange(5) * 2 * np.pi / 5:
        tip = np.array([0.3 * np.cos(a), w / 2 + 0.3 * np.sin(a), 0.06])
        parts.append(rod((0, w / 2, 0.11), tip, 0.02, CHAIR, colour=(0.1, 0.1, 0.1)))
        parts.append(rounded(tip - 0.03, tip + 0.03, 0.025, CHAIR, colour=(0.1, 0.1, 0.1)))
    back = rounded(
        (-w / 2, -0.04, s + 0.1),
        (w / 2, 0.04, s + rng.uniform(0.45, 0.75)),
        0.04,
        CHAIR,
        colour=colour,
    )
    parts.append(tilted(back, 0, rng.uniform(0.05, 0.25), (0, 0, s)))
    if rng.random() < 0.6:
        for x in (-w / 2 - 0.02, w / 2 + 0.02):
            parts.append(
                rod((x, 0.15, s + 0.2), (x, w - 0.12, s + 0.2), 0.025, CHAIR, colour=colour)
            )
            parts.append(rod((x, w / 2, s - 0.05), (x, w / 2, s + 0.2), 0.02, CHAIR, colour=colour))
    return parts, (w, w)


def _lounge_chair(rng, colour):
    """Return a sling chair: bent tubes, a low reclined seat, a tall back."""
    w, d, s = rng.uniform(0.55, 0.68), rng.uniform(0.6, 0.75), rng.uniform(0.28, 0.4)
    lean, slope = rng.uniform(0.25, 0.6), rng.uniform(0.05, 0.25)
    thick = rng.uniform(0.03, 0.1)
    seat = rounded(
        (-w / 2 + 0.04, 0, s - thick), (w / 2 - 0.04, d, s), thick * 0.45, CHAIR, colour=colour
    )
    back = rounded(
        (-w / 2 + 0.04, -thick, s),
        (w / 2 - 0.04, 0, s + rng.uniform(0.5, 0.8)),
        thick * 0.45,
        CHAIR,
        colour=colour,
    )
    parts = [tilted(seat, 0, slope, (0, 0, s)), tilted(back, 0, lean, (0, 0, s))]
    tube = rng.uniform(0.015, 0.03)
    steel = shade(rng, WOODS)
    arm = s + rng.uniform(0.15, 0.3)
    for x in (-w / 2, w / 2):
        path = [
            (x, -0.3, 0.02),
            (x, d * 0.7, 0.02),
            (x, d, 0.12),
            (x, d, arm - 0.12),
            (x, d - 0.12, arm),
            (x, -0.1, arm),
        ]
        parts += [rod(a, b, tube, CHAIR, colour=steel) for a, b in itertools.pairwise(path)]
    parts.append(rod((-w / 2, -0.3, 0.02), (w / 2, -0.3, 0.02), tube, CHAIR, colour=steel))
    return parts, (w, d)


def chair(rng: np.random.Generator):
    """Return a dining, office or lounge chair: solids, (width, depth)."""
    colour = shade(rng, CLOTHS + WOODS)
    kind = rng.choice(3, p=(0.5, 0.2, 0.3))
    return (_dining_chair, _office_chair, _lounge_chair)[kind](rng, colour)


def sofa(rng: np.random.Generator, seats: int | None = None):
    """Return a sofa or an armchair with cushions: solids, (width, depth)."""
    colour = shade(rng, CLOTHS)
    seats = seats or int(rng.choice((1, 2, 3), p=(0.35, 0.3, 0.35)))
    w = rng.uniform(0.55, 0.75) * seats
    d, s = rng.uniform(0.75, 1.0), rng.uniform(0.36, 0.48)
    arm, thick = rng.uniform(0.1, 0.28), rng.uniform(0.15, 0.28)
    top, arm_top = s + rng.uniform(0.25, 0.55), s + rng.uniform(0.08, 0.28)
    soft = rng.uniform(0.02, 0.09)
    lift = rng.choice((0.0, rng.uniform(0.06, 0.14)))
    look = {"colour": colour, "pattern": "cloth"}
    parts = [
        box((-w / 2, 0.02, lift), (w / 2, d - 0.03, s - 0.13), SOFA, **look),
        rounded((-w / 2 - arm * 0.5, 0, lift), (w / 2 + arm * 0.5, thick, top), soft, SOFA, **look),
    ]
    if rng.random() < 0.9:
        for x0 in (-w / 2 - arm, w / 2):
            parts.append(rounded((x0, 0.0, lift), (x0 + arm, d, arm_top), soft, SOFA, **look))
            if rng.random() < 0.3:
                parts.append(
                    rod(
                        (x0 + arm / 2, 0.02, arm_top),
                        (x0 + arm / 2, d, arm_top),
                        arm * 0.55,
                        SOFA,
                        **look,
                    )
                )
    edges = np.linspace(-w / 2, w / 2, seats + 1)
    for a, b in itertools.pairwise(edges):
        parts.append(
            rounded((a + 0.005, thick * 0.8, s - 0.14), (b - 0.005, d, s), 0.05, SOFA, **look)
        )
        cushion = rounded(
            (a, thick * 0.7, s),
            (b, thick + 0.14, top + rng.uniform(-0.1, 0.06)),
            0.06,
            SOFA,
            **look,
        )
        parts.append(tilted(cushion, 0, rng.uniform(0.05, 0.25), (0, thick, s)))
    if lift:
        for x in (-w / 2, w / 2):
            parts += [
                rod((x, y, 0), (x, y, lift + 0.02), 0.02, SOFA, colour=shade(rng, WOODS))
                for y in (0.08, d - 0.08)
            ]
    for _ in range(rng.integers(0, 3)):
        size = rng.uniform(0.16, 0.24)
        pillow = rounded(
            (-size, -0.07, 0), (size, 0.07, 2 * size), 0.065, SOFA, colour=shade(rng, CLOTHS)
        )
        pillow = tilted(pillow, 0, rng.uniform(0.2, 0.7), (0, 0, 0))
        parts += place(
            [pillow],
            rng.uniform(-w / 2 + size, max(w / 2 - size, size - w / 2 + 0.01)),
            thick + 0.2,
            s,
            rng.uniform(-0.5, 0.5),
        )
    return parts, (w + 2 * arm, d)


def bed(rng: np.random.Generator):
    """Return a bed with pillows: solids, (width, length)."""
    w, d, h = rng.uniform(0.9, 1.8), rng.uniform(1.95, 2.15), rng.uniform(0.35, 0.55)
    cloth = {"colour": shade(rng, CLOTHS), "pattern": "cloth"}
    parts = [
        box((-w / 2, 0.03, 0.08), (w / 2, d, h - 0.2), SOFA, colour=shade(rng, WOODS)),
        rounded((-w / 2 + 0.02, 0.05, h - 0.22), (w / 2 - 0.02, d - 0.02, h), 0.07, SOFA, **cloth),
        box(
            (-w / 2, 0, 0),
            (w / 2, 0.06, h + rng.uniform(0.2, 0.6)),
            SOFA,
            colour=shade(rng, WOODS),
        ),
        rounded(
            (-w / 2 - 0.02, d * 0.35, h - 0.25), (w / 2 + 0.02, d, h + 0.05), 0.05, SOFA, **cloth
        ),
    ]
    for x in (-w / 4, w / 4) if w > 1.3 else (0.0,):
        parts.append(
            rounded(
                (x - 0.32, 0.08, h),
                (x + 0.32, 0.48, h + 0.14),
                0.065,
                SOFA,
                colour=shade(rng, CLOTHS),
            )
        )
    return parts, (w, d)
