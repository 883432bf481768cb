"""What stands beside roads: buildings, fences, hedges, trees, poles, bins."""

import numpy as np

from sparseconv.datasets.labels import STREETS
from sparseconv.datasets.procedural.solid import Solid, box, ellipsoid, frustum, place, rod, rounded

BUILDING, FENCE, VEGETATION, TRUNK, POLE, OTHER = (
    STREETS.index(n) for n in ("building", "fence", "vegetation", "trunk", "pole", "other")
)


def _windows(rng, half: float, half_height: float):
    """Return the depth of a facade: recessed windows in a grid, open ones swallow the ray."""
    pitch, wide = rng.uniform(1.6, 4.0), rng.uniform(0.35, 0.65)
    storey, sill = rng.uniform(2.6, 3.4), rng.uniform(0.7, 1.2)
    tall = rng.uniform(1.2, 1.7)
    recess, shift = rng.uniform(0.03, 0.3), rng.uniform(0, 3)
    ledge = rng.uniform(0, 0.06)
    glass = rng.uniform(0.2, 0.7)
    relief, (ku, kv) = rng.choice((0.0, rng.uniform(0, 0.08))), rng.uniform(1.5, 9, 2)

    def depth(x, z):
        u = ((x + shift) % pitch) / pitch
        v = (z + half_height) % storey
        inside = (u < wide) & (v > sill) & (v < sill + tall)
        out = np.where(inside, recess, ledge * (np.abs(v) < 0.25)).astype(np.float32)
        out += relief * (np.sin(ku * x) * np.sin(kv * z) > 0.2)
        # a fixed hash of the place decides which rays the glass swallows
        noise = np.modf(np.abs(np.sin(x * 91.7 + z * 47.3)) * 4375.5)[0]
        out[inside & (noise < glass)] = np.inf
        return out

    return depth


def building(rng: np.random.Generator, length: float) -> list[Solid]:
    """Return a house: facade on y = 0 along x from 0 to `length`, its body towards +y."""
    deep, high = rng.uniform(7, 12), rng.uniform(3.0, 14.0)
    look = {"reflectivity": rng.uniform(0.25, 0.65)}
    front = box(
        (0, 0, -1.5),
        (length, deep, high),
        BUILDING,
        surface=_windows(rng, length / 2, high / 2),
        **look,
    )
    parts = [front]
    plinth = rng.uniform(0, 0.08)
    parts.append(box((0, -plinth, -1.5), (length, 0.1, rng.uniform(0.2, 0.8)), BUILDING, **look))
    for _ in range(rng.integers(0, 4)):
        kind = rng.random()
        x = rng.uniform(0, max(length - 3.5, 0.1))
        w = min(rng.uniform(0.8, 3.5), length - x)
        if kind < 0.3:
            out, z = rng.uniform(0.5, 1.5), rng.uniform(2.3, 3.2)
            parts.append(
                box((x, -out, z), (x + w, 0, z + rng.uniform(0.15, 1.1)), BUILDING, **look)
            )
        elif kind < 0.6:
            out = rng.uniform(0.3, 2.5)
            parts.append(box((x, -out, -1.5), (x + w, 0, rng.uniform(2.2, high)), BUILDING, **look))
        elif kind < 0.8:
            for k in range(rng.integers(1, 5)):
                parts.append(
                    box((x, -0.3 * (k + 1), -1), (x + 1.4, 0, 0.15 * (4 - k)), BUILDING, **look)
                )
        else:
            parts.append(rod((x, -0.06, 0), (x, -0.06, high), 0.05, BUILDING, **look))
    return parts


def fence(rng: np.random.Generator, length: float) -> list[Solid]:
    """Return a wall, a picket fence, a railing or a mesh along x from 0 to `length`."""
    kind, high = rng.random(), rng.uniform(0.6, 2.0)
    look = {"reflectivity": rng.uniform(0.2, 0.5)}
    if kind < 0.3:
        return [box((0, 0, -0.5), (length, rng.uniform(0.12, 0.3), high), FENCE, **look)]
    through = rng.uniform(0.03, 0.15)
    parts = [box((0, 0, 0.05), (length, 0.04, high), FENCE, free_path=through, **look)]
    for x in np.arange(0, length, rng.uniform(1.8, 3.0)):
        parts.append(box((x, -0.03, -0.3), (x + 0.08, 0.05, high + 0.05), FENCE, **look))
    if kind < 0.6:
        parts.append(box((0, -0.05, -0.5), (length, 0.1, rng.uniform(0.2, 0.6)), FENCE, **look))
    else:
        parts += [
            box((0, -0.02, z), (length, 0.04, z + 0.07), FENCE, **look) for z in (0.25, high - 0.1)
        ]
    return parts


def hedge(rng: np.random.Generator, length: float) -> list[Solid]:
    """Return a hedge along x from 0 to `length`: dense, with an uneven top."""
    parts, x = [], 0.0
    high, wide = rng.uniform(0.25, 2.4), rng.uniform(0.4, 1.6)
    tight = rng.uniform(0.02, 0.2)
    while x < length:
        piece = min(rng.uniform(1.0, 4.0), length - x + 0.1)
        top = high * rng.uniform(0.9, 1.1)
        parts.append(
            rounded(
                (x, 0, -0.3),
                (x + piece, wide * rng.uniform(0.9, 1.1), top),
                0.15,
                VEGETATION,
                free_path=tight,
                reflectivity=rng.uniform(0.3, 0.4),
            )
        )
        x += piece
    return parts


def bush(rng: np.random.Generator) -> list[Solid]:
    """Return a group of shrubs around the origin."""
    parts = []
    size = rng.uniform(0.3, 1.3)
    for _ in range(rng.integers(1, 6)):
        half = size * rng.uniform(0.5, 1.0, 3)
        at = np.append(rng.normal(0, size, 2), half[2] * 0.7)
        parts.append(
            ellipsoid(at, half, VEGETATION, free_path=rng.uniform(0.05, 0.4), reflectivity=0.35)
        )
    return parts


def tree(rng: np.random.Generator) -> list[Solid]:
    """Return a tree: a leaning trunk, limbs, and a crown of porous balls."""
    r, clear = 10 ** rng.uniform(-1.2, -0.5), rng.uniform(1.2, 3.5)
    high = clear + rng.uniform(2.0, 7.0)
    lean = rng.normal(0, 0.15, 2)
    bark = {"reflectivity": rng.uniform(0.2, 0.4)}
    top = np.array([*lean, clear + 0.5])
    parts = [
        rod((0, 0, -0.5), top, r, TRUNK, **bark),
        frustum((0, 0, -0.3), r * 1.6, r, 0.6, TRUNK, **bark),
    ]
    wide, leaf = rng.uniform(0.8, 3.0), rng.uniform(0.3, 1.6)
    if rng.random() < 0.2:
        foot = rng.uniform(0.2, 1.2)
        for z in np.arange(foot, high, 1.0):
            w = wide * (1 - (z - foot) / (high - foot + 0.3)) + 0.2
            parts.append(
                ellipsoid(
                    (0, 0, z + 0.4),
                    (w, w, 0.8),
                    VEGETATION,
                    free_path=leaf * 0.5,
                    reflectivity=0.35,
                )
            )
        return parts
    for _ in range(rng.integers(2, 6)):
        out = rng.normal(0, wide * 0.4, 2)
        tip = np.array([*(lean + out), clear + rng.uniform(0.5, 2.5)])
        parts.append(rod(top - (0, 0, 0.4), tip, r * 0.4, TRUNK, **bark))
    for _ in range(rng.integers(4, 14)):
        half = wide * rng.uniform(0.2, 0.7, 3)
        at = np.array(
            [*(lean + rng.normal(0, wide * 0.5, 2)), rng.uniform(clear + half[2] * 0.8, high)]
        )
        parts.append(
            ellipsoid(
                at, half, VEGETATION, free_path=leaf * rng.uniform(0.4, 1.6), reflectivity=0.35
            )
        )
    return parts


def pole(rng: np.random.Generator) -> list[Solid]:
    """Return a lamp post, a traffic sign, a traffic light or a bollard."""
    kind = rng.random()
    metal = {"reflectivity": rng.uniform(0.1, 0.5)}
    if kind < 0.2:
        return [
            rod((0, 0, -0.3), (0, 0, rng.uniform(0.7, 1.2)), rng.uniform(0.04, 0.1), POLE, **metal)
        ]
    if kind < 0.5:
        high, r = rng.uniform(4, 9), rng.uniform(0.05, 0.14)
        arm = rng.uniform(0.5, 2.0)
        return [
            rod((0, 0, -0.3), (0, 0, high), r, POLE, **metal),
            frustum((0, 0, -0.3), r * 1.7, r * 1.5, 1.2, POLE, **metal),
            rod((0, 0, high), (0, arm, high + 0.3), 0.05, POLE, **metal),
        ]
    high, r = rng.uniform(2.0, 3.2), rng.uniform(0.025, 0.05)
    parts = [rod((0, 0, -0.3), (0, 0, high), r, POLE, **metal)]
    for k in range(rng.integers(1, 3)):
        half, z = rng.uniform(0.2, 0.45), high - 0.4 - 0.75 * k
        if kind < 0.85:
            parts.append(
                box((-half, -0.06, z - half), (half, -0.03, z + half), POLE, reflectivity=0.95)
            )
        else:
            parts.append(
                box((-0.14, -0.3, z - 0.4), (0.14, -0.05, z + 0.4), POLE, reflectivity=0.1)
            )
    return parts


def street_object(rng: np.random.Generator) -> list[Solid]:
    """Return a bin, a switch box, a bench, a heap of boxes or a bus shelter; class other."""
    kind = rng.random()
    look = {"reflectivity": rng.uniform(0.1, 0.5)}
    if kind < 0.4:
        bins = []
        for k in range(rng.integers(1, 4)):
            w, h = rng.uniform(0.25, 0.6), rng.uniform(0.9, 1.3)
            part = [
                box((-w, -0.3, 0.08), (w, 0.3, h), OTHER, **look),
                box((-w - 0.03, -0.34, h), (w + 0.03, 0.34, h + 0.06), OTHER, **look),
            ]
            bins += place(part, 1.3 * k, 0, 0, rng.normal(0, 0.2))
        return bins
    if kind < 0.6:
        return [box((-0.5, -0.2, -0.1), (0.5, 0.2, rng.uniform(0.9, 1.4)), OTHER, **look)]
    if kind < 0.8:
        return [
            box((-0.8, -0.2, 0.4), (0.8, 0.2, 0.46), OTHER, **look),
            box((-0.8, 0.18, 0.5), (0.8, 0.22, 0.85), OTHER, **look),
            box((-0.7, -0.18, 0), (-0.62, 0.18, 0.4), OTHER, **look),
            box((0.62, -0.18, 0), (0.7, 0.18, 0.4), OTHER, **look),
        ]
    return [rounded((-0.6, -0.5, 0), (0.6, 0.5, rng.uniform(0.5, 1.4)), 0.1, OTHER, **look)]
