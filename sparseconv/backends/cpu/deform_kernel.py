"""Depthwise convolutions whose kernel every site reads between its cells, and their gradients."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import DTYPES, dense, pairs, rows, taps_of
from sparseconv.backends.reference import deform_kernel as reference


def deform_kernel(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [S, C]
    places: Tensor,  # [M, K, R, 3]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    scope: list[int],
) -> Tensor:  # [M, C]
    """Return `y[o, c] = sum over pairs (i, o) of taps t of W(places[o, t, r(c)])[c] x[i, c]`."""
    if features.numel() == 0 or places.numel() == 0:
        given = (features, weight, places, in_rows, out_rows, segments, scope)
        return reference.deform_kernel(*given)
    return _sums(features, weight, places, in_rows, out_rows, segments, scope, False)


def deform_kernel_grad(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [S, C]
    places: Tensor,  # [M, K, R, 3]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    scope: list[int],
    grad: Tensor,  # [M, C]
) -> tuple[Tensor, Tensor, Tensor]:  # [N, C], [S, C], [M, K, R, 3]
    """Return the gradients of features, weight and places."""
    book = in_rows, out_rows, segments
    if features.numel() == 0 or places.numel() == 0:
        return reference.deform_kernel_grad(features, weight, places, *book, scope, grad)
    features, grad = rows("features", features), rows("grad", grad, features.dtype)
    if grad.shape != (places.shape[0], features.shape[1]):
        expected = f"{[places.shape[0], features.shape[1]]}"
        raise ValueError(complain("grad", expected, f"{list(grad.shape)}"))
    back = _sums(grad, weight, places, *book, scope, True, features.shape[0])
    weight, places, where = _checked(features, weight, places, scope)
    made = weight.new_empty(weight.shape), places.new_empty(places.shape)
    in_rows, out_rows = pairs(in_rows, out_rows)
    segments, taps = taps_of(segments)
    _native.deform_kernel_grad(
        DTYPES[features.dtype],
        features.shape[0],
        features.shape[1],
        where,
        features.data_ptr(),
        weight.data_ptr(),
        in_rows.data_ptr(),
        out_rows.data_ptr(),
        segments.data_ptr(),
        taps,
        in_rows.shape[0],
        grad.data_ptr(),
        *(tensor.data_ptr() for tensor in made),
        torch.get_num_threads(),
    )
    return back, *made


def _checked(
    features: Tensor,  # [., C]
    weight: Tensor,  # [S, C]
    places: Tensor,  # [M, K, R, 3]
    scope: list[int],
) -> tuple[Tensor, Tensor, _native.KernelPlaces]:
    """Return contiguous tensors and what names them; they must outlive it."""
    if places.dtype not in (torch.float32, torch.float64):
        raise TypeError(complain("places", "float32 or float64", str(places.dtype)))
    weight, places = (
        dense("weight", weight, features.dtype, 2),
        dense("places", places, places.dtype, 4),
    )
    (m, taps, groups, _), channels = places.shape, features.shape[1]
    if groups < 1 or channels % groups or places.shape[3] != 3:
        expected = f"shape [M, K, R, 3], R a divisor of {channels}"
        raise ValueError(complain("places", expected, f"{list(places.shape)}"))
    if weight.shape != (scope[0] * scope[1] * scope[2], channels):
        expected = f"{[scope[0] * scope[1] * scope[2], channels]}"
        raise ValueError(complain("weight", expected, f"{list(weight.shape)}"))
    wide = places.dtype == torch.float64
    where = _native.KernelPlaces(places.data_ptr(), wide, m, taps, groups, *scope)
    return weight, places, where


def _sums(
    features: Tensor,  # [N, C], transposed [M, C]
    weight: Tensor,  # [S, C]
    places: Tensor,  # [M, K, R, 3]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    scope: list[int],
    transposed: bool,
    count: int = 0,
) -> Tensor:  # [M, C], transposed [N, C]
    """Return the sums at output rows, or, transposed, those at input rows."""
    features = rows("features", features)
    weight, places, where = _checked(features, weight, places, scope)
    in_rows, out_rows = pairs(in_rows, out_rows)
    segments, taps = taps_of(segments)
    if taps != places.shape[1]:
        raise ValueError(complain("places", f"{taps} taps", f"{list(places.shape)}"))
    num_in = count if transposed else features.shape[0]
    y = features.new_empty(num_in if transposed else places.shape[0], features.shape[1])
    _native.deform_kernel(
        DTYPES[features.dtype],
        num_in,
        features.shape[1],
        where,
        features.data_ptr(),
        weight.data_ptr(),
        in_rows.data_ptr(),
        out_rows.data_ptr(),
        segments.data_ptr(),
        taps,
        in_rows.shape[0],
        transposed,
        y.data_ptr(),
        torch.get_num_threads(),
    )
    return y
