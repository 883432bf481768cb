"""A window in which a cloud is turned about and its colouring changed by keys."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sparseconv._errors import complain
from sparseconv._optional import require
from sparseconv.io.point_cloud import PointCloud
from sparseconv.viz.colouring import Legend, colour_points, default_colour
from sparseconv.viz.legend import with_legend
from sparseconv.viz.offscreen import place, to_open3d
from sparseconv.viz.snapshot import BACKGROUNDS, closing_point_size, compose, write_png

KEYS = {
    "L": ("label", "colour by label"),
    "C": ("rgb", "the scan's own colours"),
    "F": ("confidence", "colour by confidence"),
    "G": ("height", "colour by height"),
}
HELP = "\n".join(
    [
        "mouse: left turns, wheel moves closer, middle (or ctrl and left) shifts",
        *(f"{key}: {text}" for key, (_, text) in KEYS.items()),
        "X: show or hide the ceiling and the walls in the way",
        "S: save a picture",
        "+ and -: larger and smaller points",
        "H: this help",
        "Q or Esc: close",
    ]
)


class Session:
    """What the window shows, without the window: every key is a method that can be called.

    Args:
        cloud: N points; those with NaN or infinite coordinates are left out.
        classes: names (and colours) of the labels, as for `snapshot`.
        colour: the first colouring; None as for `snapshot`.
        up: an axis, a vector [3], or `"auto"`.
        say: receives the lines meant for the user.
        size: width and height of the window, pixels.
    """

    def __init__(
        self,
        cloud: PointCloud,
        classes: Any = None,
        *,
        colour: str | None = None,
        up: str | np.ndarray = "auto",
        say: Callable[[str], None] = lambda line: None,
        size: tuple[int, int] = (1280, 960),
    ):
        finite = np.isfinite(cloud.xyz).all(axis=1)
        if not finite.any():
            raise ValueError(
                complain("cloud", "at least one point with finite coordinates", f"{len(cloud)}")
            )
        self.cloud = cloud if finite.all() else cloud.select(finite)
        self.classes = classes
        self.say = say
        self.size = size
        self.colour = colour or default_colour(self.cloud)
        self.camera, self.cut, self.up = compose(self.cloud, classes, size=size, up=up)
        self.cutaway = True
        self.point_size = closing_point_size(self.cloud.xyz, self.camera, size, self.up)
        self.rgb, self.legend = self._colours(self.colour)

    @property
    def shown(self) -> np.ndarray:
        """Return which points are drawn, bool [N]."""
        return self.cut if self.cutaway else np.ones(len(self.cloud), dtype=bool)

    def recolour(self, colour: str) -> bool:
        """Change the colouring; return whether the cloud has the attribute for it."""
        try:
            self.rgb, self.legend = self._colours(colour)
        except ValueError as error:
            self.say(str(error))
            return False
        self.colour = colour
        self.say(f"colouring: {colour}")
        return True

    def toggle_cutaway(self) -> bool:
        """Show or hide the ceiling and the walls in the way; return True: the window redraws."""
        self.cutaway = not self.cutaway
        hidden = int((~self.shown).sum())
        self.say(f"{hidden:,} points of the ceiling and of walls in the way are hidden")
        return True

    def help(self) -> bool:
        """Say what the keys do; return False: nothing to redraw."""
        self.say(HELP)
        return False

    def save(self, image: np.ndarray, folder: Path | None = None) -> Path:
        """Write what the window shows, uint8 [height, width, 3], under a name not yet used."""
        folder = folder or Path.cwd()
        stem = Path(self.cloud.meta.get("source") or "cloud").stem
        taken = (folder / f"{stem}_{number}.png" for number in range(1, 100000))
        path = next(path for path in taken if not path.exists())
        write_png(path, with_legend(image, self.legend, background=BACKGROUNDS["white"]))
        self.say(f"wrote {path}")
        return path

    def _colours(self, colour: str) -> tuple[np.ndarray, Legend]:
        return colour_points(self.cloud, colour, self.classes, up=self.up)


def has_display() -> bool:
    """Return whether this machine can open a window."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def view(
    cloud: PointCloud,
    classes: Any = None,
    *,
    colour: str | None = None,
    up: str | np.ndarray = "auto",
    say: Callable[[str], None] = lambda line: None,
    title: str = "sparseconv",
) -> None:
    """Open a window that shows a cloud, and return when it is closed.

    Keys: L label, C colour, F confidence, G height, X ceiling, S save a picture, H help.

    Args:
        cloud: the points.
        classes: names (and colours) of the labels, as for `snapshot`.
        colour: the first colouring; None as for `snapshot`.
        up: an axis, a vector [3], or `"auto"`.
        say: receives the lines meant for the user, such as `print`.
        title: of the window.

    Raises:
        RuntimeError: there is no screen.
        ImportError: Open3D is not installed.
    """
    if not has_display():
        raise RuntimeError(
            complain(
                "display",
                "a screen (DISPLAY or WAYLAND_DISPLAY)",
                "none",
                "write a picture instead with --snapshot picture.png",
            )
        )
    open3d = require("open3d", extra="io")
    session = Session(cloud, classes, colour=colour, up=up, say=say)
    window = open3d.visualization.VisualizerWithKeyCallback()
    if not window.create_window(title, width=session.size[0], height=session.size[1]):
        raise RuntimeError(
            complain(
                "display",
                "a screen with OpenGL 3.3",
                "one that opens no window",
                "write a picture instead with --snapshot picture.png",
            )
        )
    try:
        _fill(open3d, window, session)
        window.run()
    finally:
        window.destroy_window()


def _fill(open3d: Any, window: Any, session: Session) -> None:
    """Put the points into the window and the keys on it."""
    origin = session.camera.eye
    shape = to_open3d(session.cloud.xyz[session.shown] - origin, session.rgb[session.shown])
    window.add_geometry(shape)
    option = window.get_render_option()
    option.point_size = session.point_size
    place(open3d, window, session.camera, session.size, origin=origin)

    def redraw() -> None:
        fresh = to_open3d(session.cloud.xyz[session.shown] - origin, session.rgb[session.shown])
        shape.points, shape.colors = fresh.points, fresh.colors
        window.update_geometry(shape)

    def on(action: Callable[[], bool]) -> Callable[[Any], bool]:
        def pressed(_: Any) -> bool:
            changed = action()
            if changed:
                redraw()
            return changed

        return pressed

    def save(_: Any) -> bool:
        shot = np.asarray(window.capture_screen_float_buffer(do_render=True))
        session.save(np.rint(shot * 255).clip(0, 255).astype(np.uint8))
        return False

    for key, (colour, _) in KEYS.items():
        window.register_key_callback(ord(key), on(lambda colour=colour: session.recolour(colour)))
    window.register_key_callback(ord("X"), on(session.toggle_cutaway))
    window.register_key_callback(ord("H"), on(session.help))
    window.register_key_callback(ord("S"), save)
