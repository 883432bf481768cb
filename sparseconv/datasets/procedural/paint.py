"""Colours of hit points: base colour, pattern, shading."""

from collections.abc import Sequence

import numpy as np

from sparseconv.datasets.procedural.solid import Solid

WOODS = [(0.55, 0.36, 0.2), (0.75, 0.58, 0.4), (0.3, 0.2, 0.13), (0.85, 0.83, 0.8), (0.2, 0.2, 0.2)]
CLOTHS = [
    (0.45, 0.45, 0.5),
    (0.55, 0.25, 0.2),
    (0.3, 0.4, 0.5),
    (0.8, 0.76, 0.66),
    (0.2, 0.2, 0.22),
]
CLOTHS = [
    (0.45, 0.45, 0.5),
    (0.55, 0.25, 0.2),
    (0.3, 0.4, 0.5),
    (0.8, 0.76, 0.66),
    (0.2, 0.2, 0.22),
]


def shade(rng: np.random.Generator, choices) -> tuple[float, float, float]:
    """Return one of the colours, slightly changed."""
    colour = np.array(choices[rng.integers(len(choices))]) + rng.normal(0, 0.04, 3)
    return tuple(colour.clip(0.03, 0.97))


def _wood(local, rng):
    band = np.sin(local[:, 0] * 9 + 0.6 * np.sin(local[:, 1] * 40)) * 0.05
    return 1 + band[:, None] + 0.04 * ((local[:, 1] // 0.12) % 2)[:, None]


def _brick(local, rng):
    course = np.floor(local[:, 2] / 0.075)
    joint = (local[:, 2] % 0.075 < 0.012) | ((local[:, 0] + 0.11 * (course % 2)) % 0.22 < 0.012)
    return np.where(joint[:, None], 1.4, 1.0)


def _picture(local, rng):
    freq, phase = rng.uniform(3, 12, (3, 2)), rng.uniform(0, 6, (3, 2))
    waves = np.sin(local[:, 0, None] * freq[:, 0] + phase[:, 0]) + np.sin(
        local[:, 2, None] * freq[:, 1] + phase[:, 1]
    )
    return 0.9 + 0.3 * waves


def _cloth(local, rng):
    return 1 + 0.05 * np.sign(np.sin(local[:, :1] * 160) * np.sin(local[:, 2:] * 160))


PATTERNS = {"wood": _wood, "brick": _brick, "picture": _picture, "cloth": _cloth}


def paint(
    solids: Sequence[Solid],
    points: np.ndarray,
    owner: np.ndarray,
    cosine: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the colour of each hit point.

    Args:
        solids: the scene.
        points: [N, 3] metres.
        owner: [N] row of the solid.
        cosine: [N] of incidence.
        rng: source of pixel noise.

    Returns:
        uint8 [N, 3].
    """
    base = np.array([s.colour for s in solids])[owner]
    for row in np.unique(owner):
        if solids[row].pattern == "plain":
            continue
        here = np.flatnonzero(owner == row)
        local = (points[here] - solids[row].centre) @ solids[row].rotation
        base[here] *= PATTERNS[solids[row].pattern](local, rng)
    light = 0.7 + 0.3 * np.asarray(cosine, float)
    colour = base * light[:, None] + rng.normal(0, 0.015, base.shape)
    return (colour.clip(0, 1) * 255).astype(np.uint8)
