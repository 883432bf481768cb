"""The error of a file that does not hold what its format promises."""

import os

from sparseconv._errors import complain


class FileFormatError(ValueError):
    """A point-cloud file is malformed, truncated or ambiguous; the text names file and cure."""


def malformed(
    path: str | os.PathLike, expected: str, found: object, cure: str | None = None
) -> FileFormatError:
    """Return the error for a file that breaks its format.

    Args:
        path: the file at fault.
        expected: what the format asks for.
        found: what the file holds.
        cure: what to do about it; a general advice when absent.

    Returns:
        The exception, to be raised by the caller.
    """
    cure = cure or "check that the file is complete and its suffix names its true format"
    return FileFormatError(complain(os.fspath(path), expected, found, cure))


def printable(data: bytes | str, limit: int = 40) -> str:
    """Return the start of `data` as one short quoted piece of text.

    Args:
        data: bytes or text of a file.
        limit: greatest number of characters shown.

    Returns:
        Text without control characters.
    """
    text = data.decode("latin-1") if isinstance(data, bytes) else data
    return ascii(text[:limit]) + ("..." if len(text) > limit else "")
