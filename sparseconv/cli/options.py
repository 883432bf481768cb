"""Types of options that several commands share."""

import argparse

UPS = ("auto", "x", "y", "z", "-x", "-y", "-z")


def count(text: str) -> int:
    """Return a whole number of at least one."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found {text}")
    return value


def count_or_none(text: str) -> int:
    """Return a whole number of at least zero."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more, found {text}")
    return value


def length(text: str) -> float:
    """Return a finite number above zero."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a length above 0, found {text}")
    return value


def add_up(parser: argparse.ArgumentParser) -> None:
    """Add `--up`, whose values may start with a minus sign."""
    parser.add_argument(
        "--up",
        choices=UPS,
        default="auto",
        metavar="AXIS",
        help="the axis that points up: auto, x, y, z, -x, -y, -z (write --up=-y)",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add `--threads`."""
    parser.add_argument("--threads", type=count, metavar="N", help="threads to use (all cores)")
