"""Dimension-wise convolution and its gradients, all branches in one pass."""

from math import prod

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import DTYPES, dense, pairs, rows, sites, steps, taps_of
from sparseconv.backends.reference.dim_conv import branch_shapes


def dim_conv(
    features: Tensor,  # [N, C]
    weights: Tensor,  # [W]
    join: Tensor | None,  # [A, C]
    bias: Tensor | None,  # [C]
    coords: Tensor,  # [M, 4] int32
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    size: list[int],
    planes: list[int],
    shifts: list[int],
    axes: list[int],
    symmetric: bool,
) -> Tensor:  # [M, A C], joined [M, C]
    """Return the branches of a dimension-wise convolution, channel by channel, or joined."""
    features = rows("features", features)
    call = _Call(features, coords, in_rows, out_rows, segments)
    call.window(size, planes, shifts, axes)
    weights, join = call.kernels(weights), call.joined(join)
    if bias is not None:
        bias = dense("bias", bias, features.dtype, 1)
        if bias.shape[0] != call.channels or join is None:
            raise ValueError(complain("bias", "one a channel, with join", f"{list(bias.shape)}"))
    y = features.new_empty(coords.shape[0], call.width)
    _native.dim_conv(
        **call.given(),
        x=features.data_ptr(),
        weights=weights.data_ptr(),
        join=0 if join is None else join.data_ptr(),
        bias=0 if bias is None else bias.data_ptr(),
        y=y.data_ptr(),
    )
    return y


def dim_conv_grad(
    features: Tensor,  # [N, C]
    grad: Tensor,  # [M, A C], joined [M, C]
    weights: Tensor,  # [W]
    join: Tensor | None,  # [A, C]
    coords: Tensor,  # [M, 4] int32
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    size: list[int],
    planes: list[int],
    shifts: list[int],
    axes: list[int],
    symmetric: bool,
) -> tuple[Tensor, Tensor]:  # [N, C], [A, C]
    """Return the gradient of the features, and that of `join`, empty without one."""
    features = rows("features", features)
    call = _Call(features, coords, in_rows, out_rows, segments)
    call.window(size, planes, shifts, axes)
    weights, join = call.kernels(weights), call.joined(join)
    grad = call.grad(grad)
    x, to_join = features.new_empty(features.shape), features.new_empty(0)
    if join is not None:
        to_join = join.new_zeros(join.shape)
    _native.dim_conv_grad(
        **call.given(),
        x=features.data_ptr(),
        g=grad.data_ptr(),
        weights=weights.data_ptr(),
        join=0 if join is None else join.data_ptr(),
        symmetric=symmetric,
        to=x.data_ptr(),
        to_join=to_join.data_ptr(),
    )
    return x, to_join


def dim_conv_grad_weight(
    features: Tensor,  # [N, C]
    grad: Tensor,  # [M, A C], joined [M, C]
    join: Tensor | None,  # [A, C]
    coords: Tensor,  # [M, 4] int32
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    segments: Tensor,  # [K + 1] int64
    size: list[int],
    planes: list[int],
    shifts: list[int],
    axes: list[int],
    symmetric: bool,
) -> Tensor:  # [W]
    """Return the gradient of the kernels."""
    features = rows("features", features)
    call = _Call(features, coords, in_rows, out_rows, segments)
    total = call.window(size, planes, shifts, axes)
    join = call.joined(join)
    grad, weights = call.grad(grad), features.new_empty(total)
    _native.dim_conv_grad_weight(
        **call.given(),
        x=features.data_ptr(),
        g=grad.data_ptr(),
        join=0 if join is None else join.data_ptr(),
        to=weights.data_ptr(),
    )
    return weights


class _Call:
    """The arguments the three kernels share, checked."""

    def __init__(self, features, coords, in_rows, out_rows, segments):
        self.dtype, (self.num_in, self.channels) = features.dtype, features.shape
        self.coords = sites("coords", coords)
        self.in_rows, self.out_rows = pairs(in_rows, out_rows)
        self.segments, self.taps = taps_of(segments)

    def window(self, size, planes, shifts, axes) -> int:
        """Take the window and return the numbers of all kernels."""
        self.size = steps("size", size, 3, 1)
        if prod(self.size) != self.taps:
            raise ValueError(complain("size", f"{self.taps} taps of the rulebook", f"{self.size}"))
        self.planes = steps("planes", planes, 3, 1)
        self.shifts = steps("shifts", shifts, len(shifts))
        self.axes = [int(axis) for axis in axes]
        if not self.axes or set(self.axes) - set(range(4)) or len(set(axes)) != len(axes):
            raise ValueError(complain("axes", "some of 0 to 3, each once", f"{self.axes}"))
        shapes = branch_shapes(self.channels, self.size, self.planes, self.shifts, self.axes)
        self.width, self.total = len(self.axes) * self.channels, sum(map(prod, shapes))
        return self.total

    def kernels(self, weights: Tensor) -> Tensor:  # [W]
        """Return them contiguous, or refuse."""
        weights = dense("weights", weights, self.dtype, 1)
        if weights.shape[0] != self.total:
            raise ValueError(complain("weights", f"shape [{self.total}]", f"{list(weights.shape)}"))
        return weights

    def joined(self, join: Tensor | None) -> Tensor | None:  # [A, C]
        """Return what joins the branches; the result then has C channels."""
        if join is None:
            return None
        join, expected = dense("join", join, self.dtype, 2), [len(self.axes), self.channels]
        if list(join.shape) != expected:
            raise ValueError(complain("join", f"shape {expected}", f"{list(join.shape)}"))
        self.width = self.channels
        return join

    def grad(self, grad: Tensor) -> Tensor:  # [M, A C], joined [M, C]
        """Return it contiguous, or refuse."""
        grad, expected = dense("grad", grad, self.dtype, 2), [self.coords.shape[0], self.width]
        if list(grad.shape) != expected:
            raise ValueError(complain("grad", f"shape {expected}", f"{list(grad.shape)}"))
        return grad

    def given(self) -> dict:
        """Return them by the names the kernels know."""
        return {
            "dtype": DTYPES[self.dtype],
            "num_in": self.num_in,
            "num_out": self.coords.shape[0],
            "channels": self.channels,
            "coords": self.coords.data_ptr(),
            "size": self.size,
            "planes": self.planes,
            "shifts": self.shifts,
            "axes": self.axes,
            "in": self.in_rows.data_ptr(),
            "out": self.out_rows.data_ptr(),
            "segments": self.segments.data_ptr(),
            "taps": self.taps,
            "count": self.in_rows.shape[0],
            "threads": torch.get_num_threads(),
        }
