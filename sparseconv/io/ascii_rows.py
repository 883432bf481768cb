"""Rows of numbers in a text file, to columns of declared types."""

import os
import warnings

import numpy as np

from sparseconv.io.columns import holds
from sparseconv.io.errors import malformed

_WIDER = {"i": ("int16", "int32", "int64"), "u": ("uint16", "uint32", "uint64", "int16", "int32")}


def read_rows(
    path: str | os.PathLike,
    dtypes: list[np.dtype],
    *,
    skip: int = 0,
    rows: int | None = None,
    delimiter: str | None = None,
    comment: str | None = None,
    encoding: str = "latin-1",
) -> list[np.ndarray]:
    """Read columns of numbers, every row complete, nothing guessed.

    An integer that does not fit its declared type widens its column instead of wrapping round.

    Args:
        path: the file.
        dtypes: one per column; integers are parsed as integers, so 64 bits stay exact.
        skip: lines before the first row.
        rows: exact number of rows that must follow; None: to the end of the file. More rows than
            that are not looked at.
        delimiter: one character, or None for blanks.
        comment: one character that begins a comment, or None.
        encoding: text encoding.

    Returns:
        One array per column.  # each [N]

    Raises:
        FileFormatError: a row is short, long or not a number, or rows are missing.
    """
    if rows == 0:
        return [np.empty(0, dtype) for dtype in dtypes]
    size = os.path.getsize(path)
    if rows is not None and rows * (2 * len(dtypes) - 1) > size:
        wanted = f"{rows} rows of {len(dtypes)} numbers"
        raise malformed(path, wanted, f"a file of {size} bytes, too small for them")
    options = {
        "skiprows": skip,
        "max_rows": rows,
        "delimiter": delimiter,
        "comments": comment,
        "encoding": encoding,
        "ndmin": 2,
        "quotechar": '"',
    }
    wanted = f"{'' if rows is None else str(rows) + ' '}rows of {len(dtypes)} numbers"
    parse = [{"i": "i8", "u": "u8"}.get(dtype.kind, "f8") for dtype in dtypes]
    columns = _load(path, parse, options, wanted)
    found = len(columns[0])
    if rows is not None and found != rows:
        raise malformed(path, wanted, f"{found} rows, then the end of the file")
    return [
        _declared(column, dtype, f"column {at + 1}", path)
        for at, (column, dtype) in enumerate(zip(columns, dtypes, strict=True))
    ]


def _load(path, parse: list[str], options: dict, wanted: str) -> list[np.ndarray]:
    plain = all(code == "f8" for code in parse)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if plain:
                table = np.loadtxt(os.path.abspath(path), dtype=np.float64, **options)
            else:
                fields = np.dtype([(f"c{at}", code) for at, code in enumerate(parse)])
                table = np.loadtxt(os.path.abspath(path), dtype=fields, **{**options, "ndmin": 1})
    except (ValueError, OverflowError, UnicodeError) as error:
        if not plain:
            return _load(path, ["f8"] * len(parse), options, wanted)
        raise malformed(path, wanted, _tidy(error)) from error
    if not plain:
        return [np.ascontiguousarray(table[name]) for name in table.dtype.names]
    if table.size and table.shape[1] != len(parse):
        raise malformed(path, wanted, f"rows of {table.shape[1]}")
    return list(np.ascontiguousarray(table.reshape(-1, len(parse)).T))


def _declared(column: np.ndarray, dtype: np.dtype, place: str, path) -> np.ndarray:
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return column.astype(dtype, copy=False)
    if column.dtype.kind == "f":
        if not np.array_equal(column, np.rint(column)) or np.abs(column).max(initial=0) > 2**53:
            raise malformed(path, f"integers in {place}", "values that are none")
        column = column.astype(np.int64)
    for fitting in (dtype, *(np.dtype(name) for name in _WIDER[dtype.kind])):
        if fitting.itemsize >= dtype.itemsize and holds(fitting, column):
            return column.astype(fitting)
    return column


def _tidy(error: Exception) -> str:
    text = str(error).split(";")[0].replace("\n", " ")
    return text[:160]
