"""Checks between torch and plain addresses: nothing wrong may reach the compiled module."""

from collections.abc import Iterable

import torch
from torch import Tensor

from sparseconv._errors import complain

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
REACH = 2**31


def dense(name: str, value: Tensor, dtype: torch.dtype, dims: int) -> Tensor:
    """Return a contiguous CPU tensor of a dtype and number of dimensions, or refuse."""
    if value.dtype != dtype or value.dim() != dims or not value.is_cpu:
        raise TypeError(
            complain(
                name,
                f"a CPU tensor of {dtype} with {dims} dimensions",
                f"{value.dtype} {list(value.shape)} on {value.device}",
            )
        )
    return value.contiguous()


def sites(name: str, coords: Tensor) -> Tensor:
    """Return contiguous int32 [N, 4] coords, or refuse."""
    coords = dense(name, coords, torch.int32, 2)
    if coords.shape[1] != 4:
        raise ValueError(complain(name, "shape [N, 4]", f"{list(coords.shape)}"))
    return coords


def rows(name: str, features: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return contiguous floating rows [N, C], or refuse."""
    if features.dtype not in DTYPES:
        raise TypeError(
            complain(name, "float32, float64, bfloat16 or float16", str(features.dtype))
        )
    return dense(name, features, dtype or features.dtype, 2)


def spaced(name: str, features: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return floating rows [N, C] that lie apart by a stride, such as columns of a tensor."""
    if features.dim() == 2 and features.is_cpu and features.dtype == (dtype or features.dtype):
        apart, step = features.stride()
        if step == 1 and apart >= features.shape[1] and features.dtype in DTYPES:
            return features
    return rows(name, features, dtype)


def pairs(in_rows: Tensor, out_rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return contiguous int32 pairs of one length, or refuse."""
    in_rows = dense("in_rows", in_rows, torch.int32, 1)
    out_rows = dense("out_rows", out_rows, torch.int32, 1)
    if in_rows.shape[0] != out_rows.shape[0]:
        raise ValueError(
            complain("out_rows", f"{in_rows.shape[0]} entries", f"{out_rows.shape[0]}")
        )
    return in_rows, out_rows


def taps_of(segments: Tensor) -> tuple[Tensor, int]:
    """Return contiguous int64 segments and their number of taps, or refuse."""
    segments = dense("segments", segments, torch.int64, 1)
    count = segments.shape[0]
    if not count:
        raise ValueError(complain("segments", "K + 1 entries", "none"))
    return segments, count - 1


def columns(
    width: int, dtype: torch.dtype, given: Iterable[tuple[str, Tensor | None]]
) -> list[Tensor | None]:
    """Return contiguous [C] tensors of a dtype, None as given, or refuse."""
    made = []
    for name, value in given:
        if value is not None:
            value = dense(name, value, dtype, 1)
            if value.shape[0] != width:
                raise ValueError(complain(name, f"[{width}]", f"{list(value.shape)}"))
        made.append(value)
    return made


def address(value: Tensor | None) -> int:
    """Return where the numbers of a tensor lie, 0 for None."""
    return 0 if value is None else value.data_ptr()


def steps(name: str, values: list[int], count: int, least: int = -REACH) -> list[int]:
    """Return ints as many and as large as the kernels can add to a coordinate, or refuse."""
    values = [int(value) for value in values]
    if len(values) != count or any(not least <= value < REACH for value in values):
        raise ValueError(complain(name, f"{count} ints in {least}..{REACH - 1}", str(values)))
    return values
