"""Cast an image of rays against a list of solids and keep the first hit of each ray."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparseconv.datasets.procedural.intersect import intersect
from sparseconv.datasets.procedural.solid import Solid


@dataclass(frozen=True, slots=True)
class RayImage:
    """Rays in rows and columns, and what each has hit.

    Args:
        origin: [3] metres.
        directions: [3, H, W] float32 unit vectors.
        distance: [H, W] float32 metres, inf where nothing is hit.
        cosine: [H, W] float32 cosine of the angle of incidence.
        owner: [H, W] int32 row of the solid hit, -1 for none.
    """

    origin: np.ndarray
    directions: np.ndarray
    distance: np.ndarray
    cosine: np.ndarray
    owner: np.ndarray

    @classmethod
    def empty(cls, origin: np.ndarray, directions: np.ndarray) -> "RayImage":
        """Return an image that has hit nothing yet."""
        shape = directions.shape[1:]
        return cls(
            np.asarray(origin, np.float64),
            np.ascontiguousarray(directions, np.float32),
            np.full(shape, np.inf, np.float32),
            np.ones(shape, np.float32),
            np.full(shape, -1, np.int32),
        )

    def points(self, rows: np.ndarray) -> np.ndarray:
        """Return the hit points of flat ray numbers, [n, 3] float64 metres."""
        rays = self.directions.reshape(3, -1)[:, rows].astype(np.float64)
        return (self.origin[:, None] + rays * self.distance.reshape(-1)[rows]).T


def corners(solids: Sequence[Solid]) -> np.ndarray:
    """Return the eight corners of the box around each solid, [S, 8, 3] metres."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    half = np.stack([s.half for s in solids])
    rotation = np.stack([s.rotation for s in solids])
    centre = np.stack([s.centre for s in solids])
    return np.einsum("sij,skj->ski", rotation, signs * half[:, None]) + centre[:, None]


def cast(
    image: RayImage,
    solids: Sequence[Solid],
    windows: Sequence[tuple[int, int, int, int, int]],
    rng: np.random.Generator,
) -> None:
    """Lower `image.distance` to the nearest solid.

    Args:
        image: changed in place.
        solids: what may be hit.
        windows: (solid, row begin, row end, column begin, column end): the part of the image a
            solid can appear in, from a view's `windows`.
        rng: source of randomness for porous solids.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for row, top, bottom, left, right in windows:
            part = np.s_[top:bottom, left:right]
            shape = (bottom - top, right - left)
            rays = image.directions[:, top:bottom, left:right].reshape(3, -1)
            t, cosine = intersect(solids[row], image.origin, rays, rng)
            t = t.reshape(shape)
            closer = t < image.distance[part]
            np.copyto(image.distance[part], t, where=closer)
            np.copyto(image.cosine[part], cosine.reshape(shape), where=closer)
            np.copyto(image.owner[part], row, where=closer)
