"""Set rows of text in columns."""

import unicodedata
from collections.abc import Sequence


def columns(
    rows: Sequence[Sequence[str]], *, header: Sequence[str] = (), right: Sequence[int] = ()
) -> str:
    """Return rows as lines of aligned columns.

    Args:
        rows: cells; every row as many as the header, when there is one.
        header: titles; a rule is drawn below them.
        right: numbers of the columns that are set flush right.

    Returns:
        Lines without a line break at the end.
    """
    table = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    if not table:
        return ""
    widths = [max(_width(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join(_cell(row, i, widths, right) for i in range(len(row))) for row in table]
    if header:
        lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def seconds(time: float) -> str:
    """Return a time in words that fit a table."""
    if time < 60:
        return f"{time:.2f} s" if time < 10 else f"{time:.1f} s"
    return f"{int(time // 60)} min {time % 60:.0f} s"


def size(count: float) -> str:
    """Return bytes in words that fit a table."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"


def _cell(row: Sequence[str], i: int, widths: Sequence[int], right: Sequence[int]) -> str:
    blank = " " * (widths[i] - _width(row[i]))
    return blank + row[i] if i in right else row[i] + blank


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
