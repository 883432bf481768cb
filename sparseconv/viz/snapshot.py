"""A picture of a cloud in a PNG file, with or without a screen."""

from pathlib import Path
from typing import Any

import numpy as np

from sparseconv._errors import complain
from sparseconv._optional import require
from sparseconv.io.atomic import replacing
from sparseconv.io.point_cloud import PointCloud
from sparseconv.viz import offscreen, raster
from sparseconv.viz.camera import Camera, choose_camera, focus, is_landscape
from sparseconv.viz.colouring import colour_points, default_colour
from sparseconv.viz.cutaway import behind_near_wall, below_ceiling
from sparseconv.viz.legend import strip_height, with_legend
from sparseconv.viz.orientation import in_camera_frame, up_vector
from sparseconv.viz.palette import as_classes
from sparseconv.viz.shade import shade

BACKGROUNDS = {"white": (255, 255, 255), "dark": (24, 26, 31)}
# where a camera looks in its own frame
AHEAD = np.array([0.0, 0.0, 1.0])
RENDERERS = {"open3d": offscreen.draw, "numpy": raster.draw}


def snapshot(
    cloud: PointCloud,
    path: str | Path,
    colour: str | None = None,
    classes: Any = None,
    *,
    size: tuple[int, int] = (1280, 960),
    up: str | np.ndarray = "auto",
    background: str = "auto",
    point_size: float | None = None,
    cutaway: bool = True,
    renderer: str | None = None,
) -> Path:
    """Write a PNG of a cloud, seen obliquely from above, with a legend.

    Args:
        cloud: the points; those with NaN or infinite coordinates are left out.
        path: the file to write, ending in .png.
        colour: `"label"`, `"rgb"`, `"confidence"`, `"height"` or `"intensity"`; None takes labels
            where there are some, then colours, then heights.
        classes: names (and colours) of the labels: an object with `.names` and `.colours`, a
            sequence of names, or None.
        size: width and height of the file, pixels.
        up: an axis (`"x"` ... `"-z"`), a vector [3], or `"auto"`.
        background: `"white"`, `"dark"`, or `"auto"`: dark for the wide and low scans of streets
            and land, whose thin lines show better on it.
        point_size: diameter of a point, pixels; None chooses one that closes surfaces.
        cutaway: leave out the ceiling, and walls that stand in the way.
        renderer: `"open3d"`, `"numpy"`, or None for Open3D and, where that cannot draw, numpy.

    Returns:
        The path of the file.

    Raises:
        ValueError: the cloud has no finite point, or lacks the attribute to colour by.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(complain("path", "a file ending in .png", path.name, "add .png"))
    picture = render(
        cloud,
        colour,
        classes,
        size=size,
        up=up,
        background=background,
        point_size=point_size,
        cutaway=cutaway,
        renderer=renderer,
    )
    write_png(path, picture)
    return path


def render(
    cloud: PointCloud,
    colour: str | None = None,
    classes: Any = None,
    *,
    size: tuple[int, int] = (1280, 960),
    up: str | np.ndarray = "auto",
    background: str = "auto",
    point_size: float | None = None,
    cutaway: bool = True,
    renderer: str | None = None,
) -> np.ndarray:
    """Return the picture that `snapshot` writes, uint8 [height, width, 3]; same arguments."""
    width, height = _checked_size(size)
    if background != "auto" and background not in BACKGROUNDS:
        expected = f"auto or one of {', '.join(BACKGROUNDS)}"
        raise ValueError(complain("background", expected, repr(background)))
    if renderer is not None and renderer not in RENDERERS:
        raise ValueError(complain("renderer", f"one of {', '.join(RENDERERS)}", repr(renderer)))
    finite = np.isfinite(cloud.xyz).all(axis=1)
    if not finite.any():
        found = f"{len(cloud)} points of which none is finite" if len(cloud) else "no points"
        raise ValueError(complain("cloud", "at least one point with finite coordinates", found))
    if not finite.all():
        cloud = cloud.select(finite)
    colour = colour or default_colour(cloud)
    camera, keep, upward = compose(cloud, classes, size=size, up=up, cutaway=cutaway)
    rgb, legend = colour_points(cloud, colour, classes, up=upward)
    if background == "auto":
        background = "dark" if is_landscape(cloud.xyz, upward) else "white"
    ground = BACKGROUNDS[background]
    view = (width, height - strip_height(legend, width))
    xyz = cloud.xyz[keep]
    dot = point_size or closing_point_size(xyz, camera, view, upward)
    image = draw_points(xyz, rgb[keep], camera, view, dot, ground, renderer)
    caption = f"{len(cloud):,} points"
    return with_legend(image, legend, background=ground, caption=caption)


def compose(
    cloud: PointCloud,
    classes: Any = None,
    *,
    size: tuple[int, int] = (1280, 960),
    up: str | np.ndarray = "auto",
    cutaway: bool = True,
) -> tuple[Camera, np.ndarray, np.ndarray]:
    """Return the camera, which points to draw (bool [N]), and the upward vector [3].

    Args:
        cloud: N finite points.
        classes: as for `snapshot`.
        size: width and height of the picture, pixels.
        up: an axis, a vector [3], or `"auto"`.
        cutaway: leave out the ceiling, and walls that stand in the way.
    """
    labels = cloud.attributes.get("label")
    named = getattr(classes, "names", classes) is not None and labels is not None
    names = as_classes(classes, labels).names if named else ()
    known = labels if named else None
    upward = up_vector(cloud.xyz, up, labels=known, names=names)
    keep = np.ones(len(cloud), dtype=bool)
    if cutaway:
        keep = below_ceiling(cloud.xyz, upward, labels=known, names=names)
        keep = keep if keep.any() else ~keep
    normals = cloud.attributes.get("normal")
    camera = choose_camera(
        cloud.xyz[keep],
        upward,
        size=size,
        normals=None if normals is None else normals[keep],
        ahead=AHEAD if in_camera_frame(cloud.xyz) and abs(upward @ AHEAD) < 0.7 else None,
    )
    if cutaway and named:
        clear = behind_near_wall(cloud.xyz, upward, camera, labels=labels, names=names)
        keep = keep & clear if (keep & clear).any() else keep
    return camera, keep, upward


def closing_point_size(
    xyz: np.ndarray, camera: Camera, size: tuple[int, int], up: np.ndarray
) -> float:
    """Return the diameter in pixels at which the points of a surface touch each other."""
    shown = focus(xyz, up)
    pixels, depth = camera.project(xyz[shown] if shown.any() else xyz, size)
    inside = (depth > 0) & (pixels >= 0).all(axis=1) & (pixels < np.array(size)).all(axis=1)
    count = int(inside.sum())
    if count == 0:
        return 3.0
    cells = (pixels[inside] / 8).astype(np.int64)
    area = 64.0 * len(np.unique(cells[:, 0] * 100003 + cells[:, 1]))
    return float(np.clip(2.1 * np.sqrt(area / count), 1.5, size[0] / 160))


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a picture, uint8 [height, width, 3]; the file appears whole or not at all."""
    pictures = require("PIL.Image", extra="io")
    with replacing(path) as file:
        pictures.fromarray(picture).save(file, format="PNG", optimize=True)


def draw_points(
    xyz: np.ndarray,
    rgb: np.ndarray,
    camera: Camera,
    size: tuple[int, int],
    dot: float,
    background: tuple[int, int, int],
    renderer: str | None,
) -> np.ndarray:
    """Return a picture of points, drawn at twice the size, shaded and halved for smooth edges.

    Args:
        xyz: points [N, 3].
        rgb: uint8 [N, 3].
        camera: where from.
        size: width and height of the result, pixels.
        dot: diameter of a point, pixels of the result.
        background: colour where there is no point.
        renderer: as for `snapshot`.
    """
    pictures = require("PIL.Image", extra="io")
    double = (2 * size[0], 2 * size[1])
    options = {"point_size": 2 * dot, "background": background}
    if renderer is not None:
        image, depth = RENDERERS[renderer](xyz, rgb, camera, double, **options)
    else:
        try:
            image, depth = offscreen.draw(xyz, rgb, camera, double, **options)
        except (ImportError, RuntimeError):
            image, depth = raster.draw(xyz, rgb, camera, double, **options)
    lit = pictures.fromarray(shade(image, depth))
    return np.asarray(lit.resize(size, pictures.Resampling.BOX))


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    width, height = (int(side) for side in size)
    if not (160 <= width <= 8192 and 120 <= height <= 8192):
        raise ValueError(complain("size", "160 x 120 to 8192 x 8192 pixels", f"{width} x {height}"))
    return width, height
