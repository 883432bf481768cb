"""The one way this library words a refusal: what, expected, found, cure."""


def complain(name: str, expected: str, found: object, cure: str | None = None) -> str:
    """Return the text of an error: name, what was expected, what was found, the cure.

    Args:
        name: the argument, file or field at fault, as the user wrote it.
        expected: what would have been accepted.
        found: what was given.
        cure: what to do about it, an imperative sentence without its full stop.

    Returns:
        One line of text for an exception.

    Example:
        >>> complain("coords", "int32 [N, 4]", "float32 [5, 3]", "add a batch column")
        'coords: expected int32 [N, 4], found float32 [5, 3]; add a batch column'
    """
    text = f"{name}: expected {expected}, found {found}"
    return f"{text}; {cure}" if cure else text
