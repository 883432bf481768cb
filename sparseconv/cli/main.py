"""`sparseconv`: label, look at, describe, convert and train on point clouds."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from sparseconv.cli import bench, convert, families, info, segment, train, view
from sparseconv.cli.fault import (
    BAD_INPUT,
    BAD_USAGE,
    BROKEN_PIPE,
    DONE,
    INTERRUPTED,
    InputError,
    UsageError,
)

COMMANDS = (segment, view, info, train, convert, families, bench)
# what bad input raises in the library; anything else is a mistake of the program
EXPECTED = (ValueError, TypeError, OSError, ImportError, MemoryError, RuntimeError)


class Parser(argparse.ArgumentParser):
    """A parser that reports a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise UsageError(f"{self.prog}: {message}; see {self.prog} --help")


class Version(argparse.Action):
    """`--version`, which looks the version up only when asked."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: object) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the version and leave."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("sparseconv")
        except PackageNotFoundError:
            number = "(not installed)"
        print(f"sparseconv {number}")
        parser.exit(DONE)


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(prog="sparseconv", description="Sparse convolutions for 3D point clouds.")
    parser.add_argument("--version", action=Version)
    commands = parser.add_subparsers(
        dest="command", metavar="command", required=True, parser_class=Parser
    )
    for command in COMMANDS:
        own = command.add_parser(commands)
        if command is not bench:
            own.add_argument(
                "--debug", action="store_true", help="show the traceback of an error as well"
            )
        own.set_defaults(run=command.run, interrupted="nothing was written")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the program's name; None for those of this process.

    Returns:
        0 done, 1 bad input, 2 bad usage, 130 interrupted, 141 nobody reads the output.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    name, args = "sparseconv", argparse.Namespace(interrupted="nothing was written")
    try:
        build_parser().parse_args(argv, namespace=args)
        name = f"sparseconv {args.command}"
        code = args.run(args)
        sys.stdout.flush()
        return DONE if code is None else code
    except SystemExit as leaving:
        # argparse leaves after --help and --version
        return leaving.code if isinstance(leaving.code, int) else BAD_USAGE
    except UsageError as error:
        return _fail(args, str(error) if str(error).startswith(name) else f"{name}: {error}", 2)
    except InputError as error:
        return _fail(args, f"{name}: {error}", BAD_INPUT)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; {args.interrupted}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _close_stdout()
        return BROKEN_PIPE
    except EXPECTED as error:
        return _fail(args, f"{name}: {_one_line(error)}", BAD_INPUT)
    except Exception as error:
        kind = type(error).__name__
        text = f"{name}: internal error, {kind}: {_one_line(error)}; --debug shows where"
        return _fail(args, text, BAD_INPUT)


def _fail(args: argparse.Namespace, text: str, code: int) -> int:
    if getattr(args, "debug", False) and code != BAD_USAGE:
        import traceback

        traceback.print_exc()
    print(text, file=sys.stderr)
    return code


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}"
    if isinstance(error, MemoryError) and not str(error):
        return "out of memory; use a larger voxel or fewer points"
    return " ".join(str(error).split()) or type(error).__name__


def _close_stdout() -> None:
    """Send what is still buffered to nowhere, so that the interpreter does not fail at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        # a stream without a descriptor has nothing to flush into
        return


if __name__ == "__main__":
    sys.exit(main())
