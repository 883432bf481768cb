"""What a sparse tensor accepts, and what it does with sites given twice."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.geometry import Triple
from sparseconv.ops._checks import FLOATS, describe
from sparseconv.ops.aggregate import aggregate
from sparseconv.ops.coords import site_order, unique_coords

# what an order tells: how many sites differ, and their box
DISTINCT, LOW, HIGH, TOLD = 1, 2, 6, 10
DUPLICATES = ("error", "sum", "mean", "first")


def check_coords(coords: Tensor) -> None:
    """Refuse what is not an integer tensor [N, 4]."""
    if not isinstance(coords, Tensor) or coords.dtype not in (torch.int32, torch.int64):
        raise TypeError(
            complain(
                "coords",
                "an int32 tensor [N, 4]",
                describe(coords),
                "convert with .int(); points in metres go through sc.voxelize",
            )
        )
    if coords.dim() != 2 or coords.shape[1] != 4:
        raise ValueError(
            complain("coords", "shape [N, 4]", describe(coords), "the columns are batch, x, y, z")
        )


def check_tensors(coords: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Refuse dtypes, shapes and devices that do not fit each other.

    Returns:
        Contiguous coords, and the features.
    """
    check_coords(coords)
    if not isinstance(features, Tensor) or features.dtype not in FLOATS:
        raise TypeError(
            complain(
                "features",
                "a float32, float64, bfloat16 or float16 tensor [N, C]",
                describe(features),
                "convert with .float()",
            )
        )
    if features.dim() != 2 or features.shape[0] != coords.shape[0]:
        raise ValueError(
            complain(
                "features",
                f"shape [{coords.shape[0]}, C], a row per row of coords",
                describe(features),
            )
        )
    if features.device != coords.device:
        raise ValueError(
            complain("features", f"a tensor on {coords.device}", f"one on {features.device}")
        )
    return coords.contiguous(), features


def check_values(
    coords: Tensor, shape: Triple | None, batch_size: int | None
) -> tuple[Tensor, int, Tensor]:
    """Refuse numbers that are out of range: of int32, of the batch, of the lattice.

    Returns:
        int32 coords; the batch size, found where it was None; and the order of the sites.
    """
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 0):
        raise ValueError(complain("batch_size", "an int >= 0 or None", repr(batch_size)))
    if coords.dtype != torch.int32:
        coords = _narrowed(coords)
    order = site_order(coords)
    if coords.shape[0] == 0:
        return coords, batch_size or 0, order
    low, high = _box(coords, order)
    found = high[0] + 1
    if low[0] < 0 or (batch_size is not None and found > batch_size):
        raise ValueError(
            complain(
                "coords",
                f"a batch column in 0..{found - 1 if batch_size is None else batch_size - 1}",
                f"{low[0]}..{high[0]}",
                "the batch item is the first column, batch_size the number of scans",
            )
        )
    if shape is not None:
        for axis in range(3):
            if low[axis + 1] < 0 or high[axis + 1] >= shape[axis]:
                raise ValueError(
                    complain(
                        "coords",
                        f"{'xyz'[axis]} in 0..{shape[axis] - 1} (spatial_shape {shape})",
                        f"{low[axis + 1]}..{high[axis + 1]}",
                        "leave spatial_shape out for an unbounded lattice",
                    )
                )
    return coords, found if batch_size is None else batch_size, order


def _narrowed(coords: Tensor) -> Tensor:
    limits = torch.iinfo(torch.int32)
    low, high = (int(end) for end in torch.aminmax(coords)) if coords.numel() else (0, 0)
    if low < limits.min or high > limits.max:
        raise ValueError(
            complain(
                "coords",
                f"numbers within int32 ({limits.min} to {limits.max})",
                f"{low} to {high}",
                "subtract an origin first",
            )
        )
    return coords.to(torch.int32)


def _box(coords: Tensor, order: Tensor) -> tuple[list[int], list[int]]:
    """Return the smallest and largest batch, x, y, z, which an order tells if it tells anything."""
    if len(order):
        told = order[:TOLD].tolist()
        return told[LOW:HIGH], told[HIGH:]
    low, high = torch.aminmax(coords, dim=0)
    return low.tolist(), high.tolist()


def deduplicate(
    coords: Tensor, features: Tensor, order: Tensor, how: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Merge the rows of sites that occur more than once, or refuse them.

    Args:
        coords: int32 [N, 4].
        features: [N, C].
        order: what `site_order(coords)` returned.
        how: one of `DUPLICATES`.

    Returns:
        Both as given where every site occurs once, else in Z-order; and the order of the given
        sites, for their pyramid, where it was found and they stay.
    """
    if len(order) and int(order[DISTINCT]) == coords.shape[0]:
        return coords, features, order
    unique, inverse, counts, first = unique_coords(coords)
    if unique.shape[0] == coords.shape[0]:
        return coords, features, None
    if how == "error":
        site = unique[counts > 1][0].tolist()
        raise ValueError(
            complain(
                "coords",
                "every site once",
                f"{coords.shape[0] - unique.shape[0]} repeated, such as {site}",
                "pass duplicates='sum', 'mean' or 'first', or voxelize the points",
            )
        )
    if how == "first":
        return unique, features[first], None
    rows = torch.arange(coords.shape[0], dtype=torch.int32, device=coords.device)
    total = aggregate(features, rows, inverse.to(torch.int32), None, unique.shape[0])
    if how == "mean":
        total = total / counts[:, None].to(total.dtype)
    return unique, total, None
