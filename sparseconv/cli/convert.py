"""`sparseconv convert`: the same points in another format."""

import argparse
from pathlib import Path
from typing import Any

from sparseconv.cli.source import check_cloud_target, check_file, read_cloud, remark


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "convert",
        help="write a cloud in another format",
        description="Write a cloud in another format, with all attributes that the format holds.",
    )
    parser.add_argument("source", help="the cloud to read")
    parser.add_argument("target", help="the file to write; its suffix says the format")
    return parser


def run(args: argparse.Namespace) -> None:
    """Convert one file."""
    from sparseconv.io.registry import read, write

    source, target = Path(args.source), Path(args.target)
    check_file(source)
    check_cloud_target(target, source)
    cloud = read_cloud(source)
    write(target, cloud)
    args.interrupted = f"{target} is written"
    # what a format cannot hold is best told by what comes back out of it
    kept = read(target)
    lost = [name for name in cloud.attributes if name not in kept.attributes]
    if lost:
        remark(f"{target.suffix} holds no {', '.join(lost)}: left out")
    held = ", ".join(kept.attributes) or "no attributes"
    print(f"wrote {target}: {len(kept):,} points; {held}")
