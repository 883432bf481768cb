"""`sparseconv families`: every family of convolutions, what it costs, and how long it takes."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparseconv.cli.columns import columns
from sparseconv.cli.fault import UsageError
from sparseconv.cli.options import add_threads, count, length

if TYPE_CHECKING:
    from sparseconv.bench.families import FamilyRow
    from sparseconv.bench.scenes import Scene
    from sparseconv.nn.family import Family

MADE = "room-50k"
SMALL = "sheet"
VOXEL = 0.05


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "families",
        help="list the convolution families",
        description="List every family of convolutions: class, paper, parameters, operations. With "
        "--bench, time forward and backward of each beside the plain 3 x 3 x 3 submanifold one.",
    )
    parser.add_argument(
        "--bench",
        nargs="?",
        const=MADE,
        metavar="SCAN",
        help="time every family on this scan (a made room of 50,000 voxels if none is named)",
    )
    parser.add_argument(
        "--voxel", type=length, default=VOXEL, metavar="SIZE", help="edge of a voxel (0.05)"
    )
    parser.add_argument("--channels", type=count, default=64, metavar="C", help="in and out (64)")
    parser.add_argument("--only", metavar="NAMES", help="short names, separated by commas")
    parser.add_argument(
        "--memory", action="store_true", help="measure memory, too: a process for each family"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON, too")
    add_threads(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """List the families, or time them."""
    from sparseconv.cli.source import use_threads

    if args.memory and args.bench is None:
        raise UsageError("sparseconv families: --memory goes with --bench")
    use_threads(args.threads)
    entries = chosen(args.only)
    scene = scene_of(args.bench or SMALL, args.voxel)
    if args.bench is None:
        rows, header = listed(entries, scene, args.channels)
        print(columns(rows, header=header, right=(4, 5)))
        print()
        print(
            f"parameters and operations of {args.channels} channels in and out; operations a voxel "
            f"of a surface ({len(scene.coords):,} voxels)"
        )
        print("docs/families.md shows each: formula, what it does on sparse sites, picture")
        return
    time_all(entries, scene, args)


def chosen(only: str | None) -> list[Family]:
    """Return the families a user names, or all."""
    from sparseconv.nn.families import families, family

    if only is None:
        return list(families())
    return [family(key.strip()) for key in only.split(",") if key.strip()]


def scene_of(name: str, voxel: float) -> Scene:
    """Return a made scene by its name, or the voxels of a file."""
    from sparseconv.bench.scenes import MADE as KNOWN
    from sparseconv.bench.scenes import Scene, load_scene
    from sparseconv.bench.sized import parse_size
    from sparseconv.cli.source import read_cloud

    if not Path(name).exists() and (name in KNOWN or parse_size(name) is not None):
        return load_scene(name)
    return Scene.of(Path(name).name, read_cloud(name).xyz, voxel)


def listed(
    entries: list[Family], scene: Scene, channels: int
) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Return a line for each family, and the titles."""
    from sparseconv.bench.families import family_layer, scan_tensor
    from sparseconv.nn.cost import cost

    x = scan_tensor(scene.coords, channels)
    rows = []
    for entry in entries:
        found = cost(family_layer(entry, x).eval(), x)
        rows.append(
            (
                str(entry.number),
                entry.key,
                entry.layer.__name__,
                entry.paper,
                f"{found.parameters:,}",
                f"{found.flops / len(x):,.0f}",
                " ".join(entry.primitives),
            )
        )
    return rows, ("", "family", "class", "paper", "parameters", "flop/voxel", "made of")


def time_all(entries: list[Family], scene: Scene, args: argparse.Namespace) -> None:
    """Time families and print a table; what is done is kept when interrupted."""
    import torch

    from sparseconv.bench.families import bench_families
    from sparseconv.cli.progress import Progress
    from sparseconv.io.atomic import replacing

    rows: list[FamilyRow] = []
    try:
        with Progress() as progress:
            for row in bench_families(
                entries, scene.coords, args.channels, memory=args.memory, progress=progress
            ):
                rows.append(row)
                args.interrupted = f"{len(rows)} of {len(entries)} families are in the table"
    finally:
        if rows:
            print(
                f"{scene.name}: {len(scene.coords):,} voxels, C = {args.channels}, "
                f"{torch.get_num_threads()} threads"
            )
            print()
            lines, header = timed(rows)
            print(columns(lines, header=header, right=range(1, 7)))
            print()
            print("over plain: forward and backward over those of the 3 x 3 x 3 submanifold one,")
            print("timed in turns (median, quartiles); rulebooks are there already")
    if args.json is not None:
        with replacing(args.json) as file:
            file.write(json.dumps([asdict(row) for row in rows], indent=1).encode())


def timed(rows: list[FamilyRow]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Return a line for each timed family, and the titles."""
    lines = []
    for row in rows:
        if row.error:
            lines.append((row.key, "", "", "", "", "", "", row.error))
            continue
        memory = "" if row.memory is None else f"{row.memory:.1f}"
        spread = f"{row.ratio.low:.2f}-{row.ratio.high:.2f}"
        lines.append(
            (
                row.key,
                f"{row.cost.parameters:,}",
                f"{row.cost.flops / 1e6:,.0f}",
                f"{row.forward * 1e3:.1f}",
                f"{row.step * 1e3:.1f}",
                f"{row.ratio.median:.2f}",
                memory,
                spread,
            )
        )
    header = ("family", "parameters", "Mflop", "forward ms", "both ms", "over plain", "memory / NC")
    return lines, (*header, "quartiles")
