"""Names of classes, carried in the comments of a file."""

from collections.abc import Iterable, Sequence

MARK = "comment class "


def with_class_names(comments: Iterable[str], names: Sequence[str]) -> list[str]:
    """Return comments in which lines such as `comment class 0 floor` name the classes.

    Args:
        comments: of the file so far; names in them are replaced.
        names: of the classes 0, 1, ...

    Returns:
        The lines for the new file.
    """
    kept = [line for line in comments if not line.startswith(MARK)]
    return [*kept, *(f"{MARK}{row} {name}" for row, name in enumerate(names))]


def class_names(comments: Iterable[str]) -> tuple[str, ...] | None:
    """Return the names that `with_class_names` put into comments, None where there are none."""
    named: dict[int, str] = {}
    for line in comments:
        row, _, name = line.removeprefix(MARK).partition(" ")
        if line.startswith(MARK) and row.isdecimal() and int(row) < 65536 and name:
            named[int(row)] = name.strip()
    if not named:
        return None
    return tuple(named.get(row, f"class {row}") for row in range(max(named) + 1))
