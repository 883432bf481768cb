"""`sparseconv view`: look at a cloud in a window, or in a picture."""

import argparse
from pathlib import Path
from typing import Any

from sparseconv.cli.classes import class_names
from sparseconv.cli.fault import InputError
from sparseconv.cli.options import add_up
from sparseconv.cli.source import check_file, check_target, read_cloud

TABLES = ("rooms", "streets")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "view",
        help="look at a cloud",
        description="Open a window that shows a cloud. Keys: L label, C colour, F confidence, "
        "G height, X ceiling, S save a picture, H help.",
    )
    parser.add_argument("cloud", help="the cloud to show")
    parser.add_argument(
        "--colour",
        choices=("label", "rgb", "confidence", "height", "intensity"),
        help="what to colour by (labels, else colours, else height)",
    )
    parser.add_argument(
        "--classes",
        metavar="NAMES",
        help="names of the labels (those in the file): rooms, streets, or your own, as floor,wall",
    )
    parser.add_argument("--snapshot", metavar="PNG", help="write a picture, open no window")
    add_up(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Show one cloud."""
    source = Path(args.cloud)
    check_file(source)
    picture = Path(args.snapshot) if args.snapshot else None
    if picture is not None:
        check_target(picture, suffixes=(".png",), source=source)
    else:
        from sparseconv.viz.view import has_display

        if not has_display():
            raise InputError(
                "no display: expected a screen to open a window on, found none; "
                "write a picture instead: --snapshot picture.png"
            )
    cloud = read_cloud(source)
    told = class_names(cloud.meta.get("comments", ()))
    classes = _classes(args.classes) if args.classes else told
    if picture is not None:
        from sparseconv.viz.snapshot import snapshot

        snapshot(cloud, picture, args.colour, classes, up=args.up)
        print(f"wrote {picture}")
        return
    from sparseconv.viz.view import HELP, view

    print(HELP)
    view(cloud, classes, colour=args.colour, up=args.up, say=print, title=source.name)


def _classes(text: str) -> tuple[str, ...]:
    if text in TABLES:
        from sparseconv.datasets.labels import TABLES as tables

        return tables[text].names
    return tuple(name.strip() for name in text.split(","))
