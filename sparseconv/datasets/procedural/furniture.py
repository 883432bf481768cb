"""Tables and cabinets: back at y = 0, front towards +y, on z = 0, centred on x."""

import numpy as np

from sparseconv.datasets.labels import ROOMS
from sparseconv.datasets.procedural.paint import WOODS, shade
from sparseconv.datasets.procedural.solid import box, frustum, rod

TABLE, CABINET = ROOMS.index("table"), ROOMS.index("cabinet")


def table(rng: np.random.Generator, *, low: bool = False):
    """Return a dining or coffee table: solids, (width, depth), height of its top."""
    colour = shade(rng, WOODS)
    height = rng.uniform(0.35, 0.5) if low else rng.uniform(0.68, 0.78)
    thick = rng.uniform(0.02, 0.06)
    if rng.random() < 0.3:
        r = rng.uniform(0.35, 0.65)
        parts = [frustum((0, r, height - thick), r, r, thick, TABLE, colour=colour)]
        if rng.random() < 0.6:
            parts += [
                frustum((0, r, 0.03), 0.05, 0.04, height - thick, TABLE, colour=colour),
                frustum((0, r, 0), r * 0.6, r * 0.5, 0.03, TABLE, colour=colour),
            ]
        else:
            for a in np.arange(3) * 2.1:
                foot = np.array([r * 0.8 * np.cos(a), r + r * 0.8 * np.sin(a), 0])
                top = np.array([r * 0.5 * np.cos(a), r + r * 0.5 * np.sin(a), height - thick])
                parts.append(rod(foot, top, 0.02, TABLE, colour=colour))
        return parts, (2 * r, 2 * r), height
    w = rng.uniform(0.6, 1.3) if low else rng.uniform(0.9, 2.0)
    d = rng.uniform(0.4, 0.8) if low else rng.uniform(0.6, 1.0)
    parts = [
        box((-w / 2, 0, height - thick), (w / 2, d, height), TABLE, colour=colour, pattern="wood")
    ]
    leg = rng.uniform(0.02, 0.05)
    inset = rng.uniform(0.0, 0.12)
    style = rng.random()
    for sx in (-1, 1):
        x = sx * (w / 2 - inset - leg)
        if style < 0.2:
            parts.append(
                box((x - leg, 0.04, 0), (x + leg, d - 0.04, height - thick), TABLE, colour=colour)
            )
            continue
        for y in (inset + leg, d - inset - leg):
            if style < 0.5:
                parts.append(
                    rod((x, y, 0), (x, y, height - thick), leg * 0.8, TABLE, colour=colour)
                )
            else:
                parts.append(
                    box(
                        (x - leg, y - leg, 0),
                        (x + leg, y + leg, height - thick),
                        TABLE,
                        colour=colour,
                    )
                )
    if low and rng.random() < 0.4:
        z = height * rng.uniform(0.2, 0.5)
        parts.append(
            box((-w / 2 + 0.05, 0.04, z), (w / 2 - 0.05, d - 0.04, z + 0.02), TABLE, colour=colour)
        )
    if rng.random() < 0.4:
        z = height - thick
        parts.append(
            box((-w / 2 + 0.06, 0.06, z - 0.08), (w / 2 - 0.06, 0.09, z), TABLE, colour=colour)
        )
        parts.append(
            box(
                (-w / 2 + 0.06, d - 0.09, z - 0.08),
                (w / 2 - 0.06, d - 0.06, z),
                TABLE,
                colour=colour,
            )
        )
    return parts, (w, d), height


def desk(rng: np.random.Generator):
    """Return a desk with a drawer block or a side panel: solids, (width, depth), height."""
    colour = shade(rng, WOODS)
    w, d, h = rng.uniform(1.0, 1.8), rng.uniform(0.5, 0.8), rng.uniform(0.7, 0.78)
    side = rng.choice((-1, 1))
    x = side * (w / 2 - 0.2)
    parts = [box((-w / 2, 0, h - 0.03), (w / 2, d, h), TABLE, colour=colour, pattern="wood")]
    parts.append(
        box(
            (x - 0.2, 0.03, rng.uniform(0, 0.1)),
            (x + 0.2, d - 0.03, h - 0.03),
            TABLE,
            colour=colour,
        )
    )
    x = -side * (w / 2 - 0.03)
    if rng.random() < 0.5:
        parts.append(box((x - 0.015, 0, 0), (x + 0.015, d, h - 0.03), TABLE, colour=colour))
    else:
        parts += [rod((x, y, 0), (x, y, h), 0.02, TABLE, colour=colour) for y in (0.05, d - 0.05)]
    return parts, (w, d), h


def cabinet(rng: np.random.Generator):
    """Return a closed cupboard or a low board: solids, (width, depth), height of its top."""
    colour = shade(rng, WOODS)
    low = rng.random() < 0.6
    w = rng.uniform(0.6, 2.0) if low else rng.uniform(0.6, 1.8)
    d, h = rng.uniform(0.3, 0.6), rng.uniform(0.4, 1.1) if low else rng.uniform(1.5, 2.2)
    lift = rng.choice((0.0, rng.uniform(0.05, 0.15)))
    parts = [box((-w / 2, 0, lift), (w / 2, d, h), CABINET, colour=colour, pattern="wood")]
    columns = max(1, round(w / 0.5))
    rows = max(1, round((h - lift) / rng.uniform(0.2, 0.5))) if low else rng.integers(1, 3)
    xs, zs = np.linspace(-w / 2, w / 2, columns + 1), np.linspace(lift, h - 0.02, rows + 1)
    for i in range(columns):
        for j in range(rows):
            gap = 0.008
            parts.append(
                box(
                    (xs[i] + gap, d, zs[j] + gap),
                    (xs[i + 1] - gap, d + 0.018, zs[j + 1] - gap),
                    CABINET,
                    colour=colour,
                    pattern="wood",
                )
            )
            if rng.random() < 0.7:
                x, z = (xs[i] + xs[i + 1]) / 2, zs[j + 1] - 0.06
                parts.append(
                    box(
                        (x - 0.05, d, z - 0.01),
                        (x + 0.05, d + 0.045, z),
                        CABINET,
                        colour=(0.7, 0.7, 0.7),
                    )
                )
    if lift:
        parts += [
            rod((x, y, 0), (x, y, lift), 0.02, CABINET, colour=colour)
            for x in (0.05 - w / 2, w / 2 - 0.05)
            for y in (0.05, d - 0.05)
        ]
    return parts, (w, d), h


def shelf(rng: np.random.Generator):
    """Return open shelves with books and boxes: solids, (width, depth)."""
    colour = shade(rng, WOODS)
    w, d, h = rng.uniform(0.5, 1.8), rng.uniform(0.22, 0.4), rng.uniform(0.8, 2.2)
    thick = 0.025
    levels = np.arange(0.05, h, rng.uniform(0.28, 0.45))
    look = {"colour": colour, "pattern": "wood"}
    parts = [
        box((-w / 2, y, z), (w / 2, d, z + thick), CABINET, **look)
        for z in [*levels, h - thick]
        for y in (0.0,)
    ]
    parts += [box((x, 0, 0), (x + thick, d, h), CABINET, **look) for x in (-w / 2, w / 2 - thick)]
    if rng.random() < 0.6:
        parts.append(box((-w / 2, 0, 0), (w / 2, 0.012, h), CABINET, **look))
    for z in levels[:-1]:
        x = -w / 2 + 0.04
        while x < w / 2 - 0.1:
            if rng.random() < 0.25:
                x += rng.uniform(0.05, 0.3)
                continue
            wide = rng.uniform(0.06, 0.3)
            high, deep = rng.uniform(0.12, 0.25), rng.uniform(0.12, d - 0.03)
            right = min(x + wide, w / 2 - 0.04)
            colour = tuple(rng.uniform(0.1, 0.9, 3))
            parts.append(
                box((x, 0.02, z + thick), (right, deep, z + thick + high), CABINET, colour=colour)
            )
            x = right + rng.exponential(0.03)
    return parts, (w, d)
