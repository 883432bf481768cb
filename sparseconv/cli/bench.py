"""`sparseconv bench`: time the library, and others beside it."""

import argparse
from typing import Any


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add this command to the command line; its options are those of the benchmark itself."""
    parser = commands.add_parser(
        "bench", help="time the library", add_help=False, prefix_chars="\0"
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def run(args: argparse.Namespace) -> int | None:
    """Hand the words after `bench` to the benchmark."""
    from sparseconv.bench.runner import main

    return main(args.arguments)
