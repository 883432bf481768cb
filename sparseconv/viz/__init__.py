"""Pictures of point clouds: PNG files without a screen, and a window with one."""

from sparseconv.viz.snapshot import snapshot
from sparseconv.viz.view import view

__all__ = ["snapshot", "view"]
