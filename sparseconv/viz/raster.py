"""Draw points without any graphics library: a depth buffer in numpy."""

import numpy as np

from sparseconv.viz.camera import Camera


def draw(
    xyz: np.ndarray,  # [N, 3]
    rgb: np.ndarray,  # [N, 3]
    camera: Camera,
    size: tuple[int, int],
    *,
    point_size: float = 3.0,
    background: tuple[int, int, int] = (255, 255, 255),
) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture of points drawn as round dots, the nearest in front.

    Args:
        xyz: points [N, 3].
        rgb: uint8 [N, 3].
        camera: where from.
        size: width and height, pixels.
        point_size: side of the square, in pixels, that a dot has the area of.
        background: colour where there is no point.

    Returns:
        uint8 [height, width, 3], and the depth float64 [height, width], inf where there is none.
    """
    width, height = size
    image = np.empty((height * width, 3), dtype=np.uint8)
    image[:] = background
    nearest = np.full(height * width, np.inf)
    pixels, depth = camera.project(xyz, size)
    radius = point_size / np.sqrt(np.pi)
    reach = int(radius)
    ahead = (depth > 0) & (pixels > -reach - 1).all(axis=1)
    ahead &= (pixels < np.array(size) + reach).all(axis=1)
    # far to near: of several points on one pixel the last written stays, and that is the nearest
    order = np.flatnonzero(ahead)
    order = order[np.argsort(-depth[order], kind="stable")]
    column, row = np.rint(pixels[order]).astype(np.int64).T
    far, colour = depth[order], rgb[order]
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            if down * down + across * across > radius * radius:
                continue
            x, y = column + across, row + down
            inside = np.flatnonzero((x >= 0) & (y >= 0) & (x < width) & (y < height))
            place = y[inside] * width + x[inside]
            closer = far[inside] < nearest[place]
            place, inside = place[closer], inside[closer]
            nearest[place] = far[inside]
            image[place] = colour[inside]
    return image.reshape(height, width, 3), nearest.reshape(height, width)
