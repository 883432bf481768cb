"""A pinhole camera, and where to stand with it to see a cloud well."""

from dataclasses import dataclass

import numpy as np

from sparseconv.viz.orientation import horizontal_axes

FIELD_OF_VIEW = np.radians(40.0)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: where it is, where it looks, which way is up, how wide it sees.

    Args:
        eye: position, in the unit of the points, float64 [3].
        forward: unit vector [3] along which it looks.
        up: unit vector [3] that points up in the picture, square to `forward`.
        field_of_view: height of the picture, radians.
    """

    eye: np.ndarray
    forward: np.ndarray
    up: np.ndarray
    field_of_view: float = float(FIELD_OF_VIEW)

    def extrinsic(self) -> np.ndarray:
        """Return the matrix [4, 4] from world to camera: x right, y down, z forward."""
        right = np.cross(self.forward, self.up)
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([right, -self.up, self.forward])
        matrix[:3, 3] = -matrix[:3, :3] @ self.eye
        return matrix

    def focal(self, height: int) -> float:
        """Return the focal length in pixels of a picture of `height` pixels."""
        return 0.5 * height / float(np.tan(0.5 * self.field_of_view))

    def project(
        self,
        xyz: np.ndarray,  # [N, 3]
        size: tuple[int, int],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return where points fall in a picture.

        Args:
            xyz: points [N, 3].
            size: width and height of the picture, pixels.

        Returns:
            pixel positions [N, 2] (column, row; the middle of the first pixel is 0, 0), and
            depths [N] along the line of sight, in the unit of the points. A depth of zero or
            less is behind the camera, where the position means nothing.
        """
        width, height = size
        matrix = self.extrinsic()
        seen = (xyz - self.eye) @ matrix[:3, :3].T
        depth = seen[:, 2]
        safe = np.where(depth > 0, depth, 1.0)
        centre = np.array([0.5 * width - 0.5, 0.5 * height - 0.5])
        return centre + self.focal(height) * seen[:, :2] / safe[:, None], depth


def is_landscape(xyz: np.ndarray, up: np.ndarray) -> bool:
    """Return whether a cloud is wide and low, like a street or a piece of land."""
    low, high = _bounds(xyz, up, 2.0)
    extent = high - low
    return bool(np.hypot(extent[0], extent[1]) > 6.0 * max(extent[2], 1e-9))


def focus(xyz: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return the points that the picture shall hold: without outliers, of a LiDAR scan the middle.

    Args:
        xyz: points [N, 3].
        up: unit vector [3].

    Returns:
        bool [N].
    """
    first, second = horizontal_axes(up)
    flat = np.stack([xyz @ first, xyz @ second], axis=1)
    reach = np.hypot(*(flat - np.median(flat, axis=0)).T)
    height = xyz @ up
    if is_landscape(xyz, up):
        # a spinning sensor leaves half of its points close by, and a tail of far ones
        middle, outer, most = np.percentile(reach, [50, 75, 95])
        limit = min(most, max(1.7 * middle, outer))
        low, high = np.percentile(height, [1, 99])
    else:
        limit = np.percentile(reach, 99)
        low, high = np.percentile(height, [0.5, 99.5])
    return (reach <= limit) & (height >= low) & (height <= high)


def choose_camera(
    xyz: np.ndarray,  # [N, 3]
    up: np.ndarray,  # [3]
    *,
    size: tuple[int, int] = (1280, 960),
    normals: np.ndarray | None = None,  # [N, 3]
    ahead: np.ndarray | None = None,  # [3]
    directions: int = 16,
) -> Camera:
    """Return an oblique bird's-eye camera from the side that shows most of the cloud.

    Of several directions around the cloud the one is taken from which most of its voxels (a
    sixty-fourth of the extent) are seen; a surface whose normal looks away counts for little.
    A street is looked at along its length.

    Args:
        xyz: the points to be drawn, finite [N, 3], N at least 1.
        up: unit vector [3].
        size: width and height of the picture, pixels.
        normals: normals of the points [N, 3].
        ahead: the direction that the sensor looked along, where the scan shows one side only; the
            camera then looks along it, a little from above.
        directions: how many directions are tried.

    Returns:
        A camera that holds the cloud with a small margin.
    """
    inside = focus(xyz, up)
    rows = np.flatnonzero(inside if inside.any() else np.ones(len(xyz), dtype=bool))
    rows = rows[:: max(1, len(rows) // 40000)]
    points = xyz[rows]
    faces = None if normals is None else normals[rows]
    first, second = horizontal_axes(up)
    if ahead is not None:
        angle = float(np.arctan2(ahead @ second, ahead @ first))
        angles = angle + np.radians([0.0, 15.0, -15.0])
        elevation = np.radians(20.0)
    elif is_landscape(xyz, up):
        angles = _along(xyz @ first, xyz @ second)
        elevation = np.radians(31.0)
    else:
        angles = np.arange(directions) * (2 * np.pi / directions) + np.pi / directions
        elevation = np.radians(42.0)
    best, best_score = None, -1.0
    for angle in angles:
        level = np.cos(angle) * first + np.sin(angle) * second
        camera = aim(points, level, up, elevation, size)
        score = _seen(points, faces, camera)
        # a later direction must be clearly better, so that small changes do not turn the view
        if score > best_score * 1.02:
            best, best_score = camera, score
    return best


def _along(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the two directions along the longer side of a flat cloud, the forward one first."""
    centred = np.stack([first - np.median(first), second - np.median(second)])
    # far points tell the direction of a street, the farthest are strays
    reach = np.hypot(*centred)
    centred = centred[:, reach <= np.percentile(reach, 97)]
    _, vectors = np.linalg.eigh(centred @ centred.T)
    angle = float(np.arctan2(vectors[1, 1], vectors[0, 1]))
    if np.cos(angle) < -1e-6:
        angle += np.pi
    # a little from the side, so that fronts of houses and sides of cars show
    return np.array([angle, angle + np.pi]) + np.radians(20.0)


def aim(
    points: np.ndarray, ahead: np.ndarray, up: np.ndarray, elevation: float, size: tuple[int, int]
) -> Camera:
    """Return the camera in one direction, moved until the points fill the picture.

    Args:
        points: to hold, [N, 3].
        ahead: level unit vector [3] to look along.
        up: unit vector [3].
        elevation: how steeply it looks down, radians.
        size: width and height of the picture, pixels.
    """
    forward = np.cos(elevation) * ahead - np.sin(elevation) * up
    top = np.sin(elevation) * ahead + np.cos(elevation) * up
    right = np.cross(forward, top)
    target = 0.5 * (points.min(axis=0) + points.max(axis=0))
    distance = 2.0 * max(float(np.linalg.norm(np.ptp(points, axis=0))), 1e-6)
    half_height = np.tan(0.5 * FIELD_OF_VIEW)
    half = np.array([half_height * size[0] / size[1], half_height])
    for _ in range(12):
        camera = Camera(target - forward * distance, forward, top)
        offset = points - camera.eye
        depth = np.maximum(offset @ forward, 1e-3 * distance)
        spread = np.stack([offset @ right, offset @ top], axis=1) / depth[:, None]
        low, high = np.percentile(spread, [0.3, 99.7], axis=0)
        middle = 0.5 * (low + high)
        target = target + distance * (middle[0] * right + middle[1] * top)
        fill = max(float((0.5 * (high - low) / (0.9 * half)).max()), 1e-3)
        # nearer points grow faster than the rest: never more than half way in one step
        distance *= min(max(fill, 0.6), 1.6)
    return Camera(target - forward * distance, forward, top)


def _seen(points: np.ndarray, normals: np.ndarray | None, camera: Camera) -> float:
    """Return how many voxels of a cloud the camera sees."""
    size = (160, 120)
    pixels, depth = camera.project(points, size)
    column, row = np.rint(pixels).astype(np.int64).T
    ahead = (depth > 0) & (column >= 0) & (row >= 0) & (column < size[0]) & (row < size[1])
    place = (row * size[0] + column)[ahead]
    nearest = np.full(size[0] * size[1], np.inf)
    np.minimum.at(nearest, place, depth[ahead])
    extent = max(float(np.ptp(points, axis=0).max()), 1e-9)
    visible = np.zeros(len(points), dtype=bool)
    visible[ahead] = depth[ahead] <= nearest[place] + extent / 100
    cells = ((points - points.min(axis=0)) / extent * 63.999).astype(np.int64)
    key = (cells[:, 0] * 64 + cells[:, 1]) * 64 + cells[:, 2]
    worth = np.ones(len(points))
    if normals is not None:
        facing = ((camera.eye - points) * normals).sum(axis=1)
        worth[facing < 0] = 0.2
    best = np.zeros(64**3)
    np.maximum.at(best, key[visible], worth[visible])
    return float(best.sum())


def _bounds(xyz: np.ndarray, up: np.ndarray, trim: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentiles `trim` and `100 - trim` along both horizontals and up."""
    frame = np.stack([*horizontal_axes(up), up], axis=1)
    low, high = np.percentile(xyz @ frame, [trim, 100 - trim], axis=0)
    return low, high
