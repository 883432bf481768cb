"""Voxels as cubes, made of points on their faces, for renderers that draw points."""

import numpy as np

from sparseconv.viz.orientation import horizontal_axes

# points along the edge of a face, and how much of a cell a cube fills
SIDE = 14
FILL = 0.92
# how bright a face is that looks sideways, and what looking up and looking to one side adds
AMBIENT, ABOVE, ASIDE = 0.82, 0.18, 0.09


def voxel_points(
    xyz: np.ndarray,  # [N, 3]
    rgb: np.ndarray,  # [N, 3]
    up: np.ndarray,  # [3]
) -> tuple[np.ndarray, np.ndarray]:
    """Return points on the faces of cubes that no neighbouring cube hides.

    Args:
        xyz: integer places of the voxels [N, 3], each once.
        rgb: uint8 [N, 3].
        up: unit vector [3]; light comes from there and a little from one side.

    Returns:
        Points float64 [P, 3] in voxels, a voxel's middle at its integer place, and uint8 [P, 3].
    """
    aside, _ = horizontal_axes(up)
    places = {tuple(place) for place in xyz.tolist()}
    steps = (np.arange(SIDE) + 0.5) / SIDE * FILL - FILL / 2
    across, along = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
    points, colours = [np.zeros((0, 3))], [np.zeros((0, 3), dtype=np.uint8)]
    for axis in range(3):
        for side in (-1, 1):
            step = np.zeros(3, dtype=np.int64)
            step[axis] = side
            shown = np.array([tuple(p) not in places for p in (xyz + step).tolist()], dtype=bool)
            face = np.empty((SIDE * SIDE, 3))
            face[:, axis] = side * FILL / 2
            face[:, (axis + 1) % 3], face[:, (axis + 2) % 3] = across, along
            points.append((xyz[shown][:, None] + face).reshape(-1, 3))
            light = AMBIENT + ABOVE * (step @ up) + ASIDE * (step @ aside)
            lit = np.rint(rgb[shown] * min(light, 1.0)).astype(np.uint8)
            colours.append(np.repeat(lit, SIDE * SIDE, axis=0))
    return np.concatenate(points), np.concatenate(colours)
