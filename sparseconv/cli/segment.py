"""`sparseconv segment`: a raw scan in, a labelled cloud and a picture out."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparseconv._errors import complain
from sparseconv.cli.classes import with_class_names
from sparseconv.cli.columns import columns, seconds, size
from sparseconv.cli.fault import InputError
from sparseconv.cli.options import add_threads, add_up
from sparseconv.cli.progress import Progress
from sparseconv.cli.source import (
    check_cloud_target,
    check_file,
    check_target,
    read_cloud,
    remark,
    use_threads,
)

if TYPE_CHECKING:
    import numpy as np

    from sparseconv.io.point_cloud import PointCloud

MODELS = ("rooms", "streets")
# what the labelled cloud adds; what a scan holds under these names is kept under others
ADDED = ("label", "confidence")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "segment",
        help="give every point of a scan a class",
        description="Give every point of a scan a class. Writes the scan with all its attributes, "
        "in order, and two more: label and confidence.",
    )
    parser.add_argument("scan", help="the scan to read")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the cloud to write (SCAN_labelled.ply)"
    )
    parser.add_argument("--snapshot", metavar="PNG", help="also write a picture")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", choices=MODELS, help="the built-in model (chosen by the scan)")
    which.add_argument("--checkpoint", metavar="FILE", help="a model of `sparseconv train`")
    add_up(parser)
    add_threads(parser)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser


def run(args: argparse.Namespace) -> None:
    """Segment one scan."""
    source = Path(args.scan)
    check_file(source)
    output = Path(args.output or f"{source.name.split('.')[0]}_labelled.ply")
    check_cloud_target(output, source)
    picture = Path(args.snapshot) if args.snapshot else None
    if picture is not None:
        check_target(picture, suffixes=(".png",), source=source)
    if args.checkpoint:
        check_file(Path(args.checkpoint))
    use_threads(args.threads)

    from sparseconv.backends.memory import keep_freed_memory
    from sparseconv.io.registry import check_writable
    from sparseconv.tasks.segment import segment

    keep_freed_memory()
    started = time.perf_counter()
    cloud = read_cloud(source)
    check_writable(output, [*cloud.attributes, *ADDED])
    read_in = time.perf_counter() - started
    model = args.checkpoint or args.model or _choose(cloud, source)
    with Progress() as progress:
        result = segment(cloud, model, up=args.up, progress=progress)
    for note in result.notes:
        remark(f"note: {note}")
    labelled = _labelled(cloud, result)
    started = time.perf_counter()
    timings = {"read": read_in, **result.timings}
    _write(args, labelled, output, picture, result, timings)
    timings["write"] = time.perf_counter() - started - timings.get("picture", 0.0)
    report = _report(source, output, picture, model, result, timings)
    print(json.dumps(report, indent=2) if args.json else _table(report))


def class_rows(label: np.ndarray, confidence: np.ndarray, names: tuple[str, ...]) -> list[dict]:
    """Return points, share and mean confidence of every class that occurs, the largest first.

    Args:
        label: int [N].
        confidence: float [N].
        names: of the classes; other labels are counted as unlabelled.

    Returns:
        One dict a class: name, points, share, confidence (None where there is none).
    """
    import numpy as np

    rows = label.astype(np.int64)
    rows = np.where((rows >= 0) & (rows < len(names)), rows, len(names))
    points = np.bincount(rows, minlength=len(names) + 1)
    total = np.bincount(rows, np.nan_to_num(confidence.astype(np.float64)), len(names) + 1)
    order = [*np.argsort(-points[:-1], kind="stable").tolist(), len(names)]
    return [
        {
            "class": names[row] if row < len(names) else "unlabelled",
            "points": int(points[row]),
            "share": float(points[row] / len(label)),
            "confidence": float(total[row] / points[row]) if row < len(names) else None,
        }
        for row in order
        if points[row]
    ]


def _choose(cloud: PointCloud, path: Path) -> str:
    from sparseconv.tasks.choose import choose_model

    choice, reason = choose_model(cloud, path)
    remark(f"model: {choice} ({reason}); --model or --checkpoint takes another")
    return choice


def _labelled(cloud: PointCloud, result: Any) -> PointCloud:
    """Return the cloud with the two new attributes, what it held under their names renamed."""
    attributes = {}
    for name, values in cloud.attributes.items():
        kept = _free(f"input_{name}", cloud.attributes) if name in ADDED else name
        if kept != name:
            remark(f"the scan's own {name} is kept as {kept}")
        attributes[kept] = values
    if len(result.label) != len(cloud):
        raise InputError(complain("label", f"{len(cloud)} labels", f"{len(result.label)}"))
    attributes |= {"label": result.label, "confidence": result.confidence}
    comments = with_class_names(cloud.meta.get("comments", ()), result.classes.names)
    return cloud.replace(attributes=attributes, meta={**cloud.meta, "comments": comments})


def _free(name: str, taken: dict) -> str:
    while name in taken:
        name = f"{name}_"
    return name


def _write(
    args: argparse.Namespace,
    cloud: PointCloud,
    output: Path,
    picture: Path | None,
    result: Any,
    timings: dict[str, float],
) -> None:
    """Write cloud and picture, the slow drawing first: until it is done, nothing is written."""
    from sparseconv.io.registry import write

    if picture is None:
        write(output, cloud)
        args.interrupted = f"{output} is written"
        return
    from sparseconv.viz.snapshot import render, write_png

    started = time.perf_counter()
    image = render(cloud, "label", result.classes.names, up=result.up)
    timings["picture"] = time.perf_counter() - started
    write(output, cloud)
    args.interrupted = f"{output} is written"
    write_png(picture, image)


def _report(
    source: Path,
    output: Path,
    picture: Path | None,
    model: str,
    result: Any,
    timings: dict[str, float],
) -> dict:
    return {
        "scan": str(source),
        "output": str(output),
        "snapshot": str(picture) if picture else None,
        "model": str(model),
        "points": len(result.label),
        "voxels": int(result.voxels),
        "up": [float(part) for part in result.up],
        "notes": list(result.notes),
        "classes": class_rows(result.label, result.confidence, tuple(result.classes.names)),
        "seconds": {stage: round(float(time), 4) for stage, time in timings.items()},
        "peak_memory": int(result.peak_memory),
    }


def _table(report: dict) -> str:
    rows = [
        (
            row["class"],
            f"{row['points']:,}",
            f"{100 * row['share']:.1f} %",
            "-" if row["confidence"] is None else f"{row['confidence']:.2f}",
        )
        for row in report["classes"]
    ]
    classes = columns(rows, header=("class", "points", "share", "confidence"), right=(1, 2, 3))
    stages = [(stage, seconds(time)) for stage, time in report["seconds"].items()]
    stages.append(("total", seconds(sum(report["seconds"].values()))))
    written = [path for path in (report["output"], report["snapshot"]) if path]
    return "\n".join(
        [
            f"{report['scan']}: {report['points']:,} points, {report['voxels']:,} voxels, "
            f"model {report['model']}",
            "",
            classes,
            "",
            columns(stages, header=("stage", "time"), right=(1,)),
            "",
            f"peak memory {size(report['peak_memory'])}",
            f"wrote {' and '.join(written)}",
        ]
    )
