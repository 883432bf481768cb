"""Pictures of point clouds: PNG files without a screen, and a window with one."""

from sparseconv.viz.receptive_field import ReceptiveField, receptive_field
from sparseconv.viz.snapshot import snapshot
from sparseconv.viz.view import view

__all__ = ["ReceptiveField", "receptive_field", "snapshot", "view"]
