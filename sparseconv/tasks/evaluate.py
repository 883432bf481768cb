"""Measure a model on held-out procedural scenes and on labelled scans of SemanticKITTI.

python -m sparseconv.tasks.evaluate rooms
python -m sparseconv.tasks.evaluate streets
python -m sparseconv.tasks.evaluate streets --semantickitti 000000.bin --labels 000000.label
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparseconv._errors import complain
from sparseconv.datasets.labels import (
    ROOMS,
    STREETS,
    LabelTable,
    remap,
    semantickitti_to_streets,
)
from sparseconv.datasets.semantic_kitti import read_labels, read_velodyne
from sparseconv.io.point_cloud import PointCloud
from sparseconv.tasks.metrics import accuracy, confusion, iou, mean_iou
from sparseconv.tasks.scenes import held_out
from sparseconv.tasks.segment import segment

TABLES = {"rooms": ROOMS, "streets": STREETS}
HELD_OUT = 30


@dataclass(frozen=True, eq=False)
class Report:
    """How well a model does.

    Args:
        names: of the classes.
        matrix: `sparseconv.tasks.metrics.confusion` of all points of all scans.
        scans: how many.
    """

    names: tuple[str, ...]
    matrix: np.ndarray
    scans: int

    def table(self) -> str:
        """Return a Markdown table: class, points, IoU; the means below."""
        share = iou(self.matrix)
        rows = ["| class | points | IoU |", "|---|---:|---:|"]
        for row, name in enumerate(self.names):
            points = int(self.matrix[row].sum())
            rows.append(
                f"| {name} | {points:,} | {share[row]:.3f} |" if points else f"| {name} | 0 | - |"
            )
        rows.append(f"| mean of classes that occur | | {mean_iou(self.matrix):.3f} |")
        rows.append(f"| points with the right class | | {accuracy(self.matrix):.3f} |")
        return "\n".join(rows)


def evaluate(
    model: str | Path,
    scans: Sequence[PointCloud],
    table: LabelTable,
    *,
    up: str = "auto",
) -> Report:
    """Segment labelled scans as a user would and compare point by point.

    Args:
        model: a model of the package or the path of a checkpoint.
        scans: with the attribute `label`; labels outside the table are left out.
        table: the classes.
        up: see `sparseconv.tasks.segment`.

    Raises:
        ValueError: the model has other classes.
    """
    classes = len(table)
    total = np.zeros((classes, classes + 1), dtype=np.int64)
    for row in range(len(scans)):
        scan = scans[row]
        # the model must not see the labels, nor what else may give them away
        found = segment(PointCloud(scan.xyz), model, up=up)
        if found.classes.names != table.names:
            raise ValueError(
                complain("model", f"classes {', '.join(table.names)}", found.classes.names)
            )
        total += confusion(scan.attributes["label"], found.label, classes)
    return Report(table.names, total, len(scans))


def semantickitti(scan: str | Path, labels: str | Path) -> PointCloud:
    """Read a scan of SemanticKITTI with its labels as classes of `STREETS`; others are 255."""
    rows = read_velodyne(Path(scan))
    raw, _ = read_labels(Path(labels), len(rows))
    return PointCloud(rows[:, :3], {"label": remap(raw, semantickitti_to_streets)})


def main(arguments: list[str] | None = None) -> None:
    """Print a report."""
    parser = argparse.ArgumentParser(prog="python -m sparseconv.tasks.evaluate")
    parser.add_argument("dataset", choices=sorted(TABLES))
    parser.add_argument("--checkpoint", help="instead of the model of the package")
    parser.add_argument("--scenes", type=int, default=HELD_OUT, help="held-out scenes")
    parser.add_argument("--up", default="auto", help="auto, x, y, z, -x, -y, -z")
    parser.add_argument("--semantickitti", metavar="BIN", help="a scan instead of scenes")
    parser.add_argument("--labels", metavar="LABEL", help="its labels")
    given = parser.parse_args(arguments)
    if given.semantickitti:
        if not given.labels or given.dataset != "streets":
            parser.error("--semantickitti goes with --labels and the dataset streets")
        scans = [semantickitti(given.semantickitti, given.labels)]
    else:
        scans = held_out(given.dataset, given.scenes)
    report = evaluate(given.checkpoint or given.dataset, scans, TABLES[given.dataset], up=given.up)
    print(report.table())


if __name__ == "__main__":
    main()
