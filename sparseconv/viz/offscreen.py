"""Draw points with Open3D without a screen."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

import numpy as np

from sparseconv._optional import require
from sparseconv.viz.camera import Camera


class NoGraphicsError(RuntimeError):
    """Open3D cannot draw this cloud here, neither on a screen nor in memory."""


def draw(
    xyz: np.ndarray,  # [N, 3]
    rgb: np.ndarray,  # [N, 3]
    camera: Camera,
    size: tuple[int, int],
    *,
    point_size: float = 3.0,
    background: tuple[int, int, int] = (255, 255, 255),
) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture of points drawn by Open3D, in memory.

    Without a display, Open3D falls back to EGL, which Mesa provides in software.

    Args:
        xyz: points [N, 3].
        rgb: uint8 [N, 3].
        camera: where from.
        size: width and height, pixels.
        point_size: side of a dot, pixels.
        background: colour where there is no point.

    Returns:
        uint8 [height, width, 3], and the depth float64 [height, width], inf where there is none.

    Raises:
        ImportError: Open3D is not installed or lacks a library of the system.
        NoGraphicsError: no surface could be opened, or nothing was drawn on it.
    """
    open3d = require("open3d", extra="io")
    width, height = size
    with quiet(open3d):
        visualizer = open3d.visualization.Visualizer()
        try:
            if not visualizer.create_window(width=width, height=height, visible=False):
                raise NoGraphicsError("no display and no EGL surface")
            visualizer.add_geometry(to_open3d(xyz - camera.eye, rgb))
            option = visualizer.get_render_option()
            if option is None:
                raise NoGraphicsError("the drawing surface has no options")
            option.point_size = float(point_size)
            option.background_color = np.asarray(background, dtype=np.float64) / 255.0
            place(open3d, visualizer, camera, size, origin=camera.eye)
            _see_all(visualizer.get_view_control(), xyz, camera)
            visualizer.poll_events()
            visualizer.update_renderer()
            shot = np.asarray(visualizer.capture_screen_float_buffer(do_render=True))
            depth = np.asarray(visualizer.capture_depth_float_buffer(do_render=False))
        finally:
            visualizer.destroy_window()
    if shot.shape != (height, width, 3) or depth.shape != (height, width):
        raise NoGraphicsError(f"asked for {width} by {height} pixels, got {shot.shape}")
    pixels, ahead = camera.project(xyz, size)
    visible = (ahead > 0) & (pixels > 0).all(axis=1) & (pixels < np.array(size) - 1).all(axis=1)
    if visible.any() and not depth.any():
        # a cloud without extent, such as a single point, has no place in Open3D's scene
        raise NoGraphicsError("nothing was drawn")
    image = np.rint(shot * 255).clip(0, 255).astype(np.uint8)
    return image, np.where(depth > 0, depth, np.inf).astype(np.float64)


def _see_all(control: object, xyz: np.ndarray, camera: Camera) -> None:
    """Set the range of depths by the points: Open3D's own guess loses a single point."""
    depth = (xyz - camera.eye) @ camera.forward
    far = float(depth.max(initial=0.0))
    if far > 0:
        near = float(depth[depth > 0].min())
        control.set_constant_z_near(max(0.9 * near, 1e-3 * far))
        control.set_constant_z_far(1.1 * far)


def to_open3d(xyz: np.ndarray, rgb: np.ndarray) -> object:
    """Return an Open3D cloud of points and uint8 colours."""
    open3d = require("open3d", extra="io")
    cloud = open3d.geometry.PointCloud()
    # float64 first: Open3D copies that in one go, and float32 one by one
    cloud.points = open3d.utility.Vector3dVector(np.ascontiguousarray(xyz, dtype=np.float64))
    colours = np.ascontiguousarray(rgb, dtype=np.float64) / 255.0
    cloud.colors = open3d.utility.Vector3dVector(colours)
    return cloud


def place(
    open3d: object,
    visualizer: object,
    camera: Camera,
    size: tuple[int, int],
    *,
    origin: np.ndarray,
) -> None:
    """Move the camera of an Open3D window, whose points were shifted by `-origin`."""
    width, height = size
    pinhole = open3d.camera.PinholeCameraParameters()
    focal = camera.focal(height)
    pinhole.intrinsic = open3d.camera.PinholeCameraIntrinsic(
        width, height, focal, focal, width / 2 - 0.5, height / 2 - 0.5
    )
    matrix = camera.extrinsic()
    matrix[:3, 3] += matrix[:3, :3] @ origin
    pinhole.extrinsic = matrix
    control = visualizer.get_view_control()
    control.convert_from_pinhole_camera_parameters(pinhole, allow_arbitrary=True)


@contextlib.contextmanager
def quiet(open3d: object) -> Iterator[None]:
    """Keep Open3D and the drivers under it from writing to the terminal."""
    level = open3d.utility.VerbosityLevel.Error
    with (
        tempfile.TemporaryFile() as sink,
        open3d.utility.VerbosityContextManager(level),
        _redirected(2, sink.fileno()),
    ):
        yield


@contextlib.contextmanager
def _redirected(descriptor: int, target: int) -> Iterator[None]:
    kept = os.dup(descriptor)
    try:
        os.dup2(target, descriptor)
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
