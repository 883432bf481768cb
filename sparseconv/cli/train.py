"""`sparseconv train`: teach a network, on procedural scenes or on labelled scans."""

import argparse
from pathlib import Path
from typing import Any

from sparseconv._errors import complain
from sparseconv.cli.fault import InputError
from sparseconv.cli.options import add_threads, count, count_or_none, length
from sparseconv.cli.progress import Progress
from sparseconv.cli.source import check_file, use_threads

PROCEDURAL = ("rooms", "streets")
OPTIONS = ("steps", "batch", "voxel", "seed", "init", "precision", "workers", "conv")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "train",
        help="train a network",
        description="Train a network on procedural scenes or a folder of labelled scans. Goes on "
        "where an earlier run in the same folder stopped.",
    )
    parser.add_argument("dataset", help="rooms, streets, or a folder of labelled scans")
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="for log.csv, last.pt and best.pt"
    )
    parser.add_argument("--steps", type=count, metavar="N", help="optimiser steps in all")
    parser.add_argument("--batch", type=count, metavar="N", help="scans of a step")
    parser.add_argument("--voxel", type=length, metavar="METRES", help="edge of a voxel")
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        default=True,
        help="go on from last.pt if it is there (default)",
    )
    again.add_argument(
        "--fresh", dest="resume", action="store_false", help="start anew, whatever is in FOLDER"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the scenes and the weights")
    parser.add_argument("--init", metavar="FILE", help="start from the weights of a checkpoint")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        help="of the layers; weights stay float32 (default: float32)",
    )
    parser.add_argument(
        "--conv",
        metavar="FAMILY",
        help="what convolves in the network's blocks; sparseconv families lists the names",
    )
    add_threads(parser)
    parser.add_argument(
        "--workers",
        type=count_or_none,
        metavar="N",
        help="processes that make scans and rulebooks while the network trains (0: none)",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Train one network."""
    out = Path(args.out)
    if args.dataset not in PROCEDURAL and not Path(args.dataset).is_dir():
        found = "a file" if Path(args.dataset).exists() else "nothing of that name"
        raise InputError(
            complain(args.dataset, "rooms, streets or a folder of labelled scans", found)
        )
    if out.exists() and not out.is_dir():
        raise InputError(complain(str(out), "a folder to write into", "a file"))
    if args.init:
        check_file(Path(args.init))
    use_threads(args.threads)

    from sparseconv.backends.memory import keep_freed_memory
    from sparseconv.tasks.train import train

    keep_freed_memory()

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(complain(str(out), "a folder to write into", error.strerror)) from None
    chosen = {name: getattr(args, name) for name in OPTIONS}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    try:
        with Progress() as progress:
            train(args.dataset, out, resume=args.resume, progress=progress, **chosen)
    except KeyboardInterrupt:
        if (out / "last.pt").exists():
            args.interrupted = f"the same command goes on from {out / 'last.pt'}"
        raise
    print(f"wrote {out / 'best.pt'}, {out / 'last.pt'} and {out / 'log.csv'}")
    print(f"use it: sparseconv segment SCAN --checkpoint {out / 'best.pt'}")
