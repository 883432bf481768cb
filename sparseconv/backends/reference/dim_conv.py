"""Dimension-wise convolution in plain torch, branch by branch, tap by tap."""

from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference.conv import accumulator
from sparseconv.backends.reference.pairs import pair_bounds, rows_within


def branch_shapes(
    channels: int,
    size: list[int],
    planes: list[int],
    shifts: list[int],
    axes: list[int],
) -> list[tuple[int, int, int]]:
    """Return planes, shifts and taps of every branch; channels are planes of one shift."""
    taps = prod(size)
    return [
        (channels, 1, taps)
        if axis == 0
        else (planes[axis - 1], len(shifts), taps // size[axis - 1])
        for axis in axes
    ]


def taps_within(size: list[int], axis: int) -> list[tuple[int, int]]:
    """Return the taps of a branch, numbered there: those that stay on their plane."""
    if axis == 0:
        return [(t, t) for t in range(prod(size))]
    _, y, z = size
    place = [(t // (y * z), t // z % y, t % z)[axis - 1] for t in range(prod(size))]
    taps = [t for t, at in enumerate(place) if at == size[axis - 1] // 2]
    return [(t, n) for n, t in enumerate(taps)]


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
    wide, channels = accumulator(features.dtype), features.shape[1]
    terms = _Terms(weights.to(wide), channels, size, planes, shifts, axes)
    terms.place(in_rows, out_rows, segments, features.shape[0], coords)
    y = terms.branches(features.to(wide))
    if join is None:
        return y.flatten(1).to(features.dtype)
    y = (y * join.to(wide).t()).sum(2)
    return (y if bias is None else y + bias.to(wide)).to(features.dtype)


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
    wide, (num_in, channels) = accumulator(grad.dtype), features.shape
    terms = _Terms(weights.to(wide), channels, size, planes, shifts, axes)
    inputs, outputs = terms.place(in_rows, out_rows, segments, num_in, coords)
    g, to_join = grad.to(wide), grad.new_empty(0)
    if join is not None:
        made = terms.branches(features.to(wide)) * g[:, :, None]
        to_join = made.sum(0).t().contiguous().to(grad.dtype)
        g = g[:, :, None] * join.to(wide).t()
    g = g.reshape(-1, channels, len(axes))
    x = torch.zeros(num_in, channels, dtype=wide, device=grad.device)
    for branch, bounds, shift, scales in terms:
        i, o = inputs[bounds], outputs[bounds]
        x.index_add_(0, i, _moved(g[o, :, branch] * scales(o), -shift))
    return x.to(grad.dtype), to_join


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
    channels = features.shape[1]
    wide = accumulator(features.dtype)
    x, g = features.to(wide), grad.to(wide)
    if join is not None:
        g = g[:, :, None] * join.to(wide).t()
    g = g.reshape(-1, channels, len(axes))
    total = sum(map(prod, branch_shapes(channels, size, planes, shifts, axes)))
    weights = torch.zeros(total, dtype=wide, device=features.device)
    terms = _Terms(weights, channels, size, planes, shifts, axes)
    inputs, outputs = terms.place(in_rows, out_rows, segments, features.shape[0], coords)
    for branch, bounds, shift, scales in terms:
        i, o = inputs[bounds], outputs[bounds]
        scales.add(o, _moved(x, shift)[i] * g[o, :, branch])
    return weights.to(features.dtype)


class _Terms:
    """The sums a dimension-wise convolution is made of: branch, pairs, shift, kernels."""

    def __init__(self, weights, channels, size, planes, shifts, axes):
        shapes = branch_shapes(channels, size, planes, shifts, axes)
        total = sum(map(prod, shapes))
        if weights.shape != (total,):
            raise ValueError(complain("weights", f"shape [{total}]", f"{list(weights.shape)}"))
        self.size, self.planes, self.shifts, self.axes = size, planes, shifts, axes
        pieces = weights.split([prod(shape) for shape in shapes])
        self.kernels = [p.view(shape) for p, shape in zip(pieces, shapes, strict=True)]

    def place(self, in_rows, out_rows, segments, num_in, coords):
        """Take the pairs and sites; return their rows as int64."""
        check_planes(coords, self.planes, self.axes)
        self.coords = coords.long()
        self.bounds = list(pairwise(pair_bounds(segments, in_rows.shape[0])))
        self.outputs = rows_within("out_rows", out_rows, coords.shape[0])
        self.inputs = rows_within("in_rows", in_rows, num_in)
        return self.inputs, self.outputs

    def branches(
        self,
        x: Tensor,  # [N, C]
    ) -> Tensor:  # [M, C, A]
        """Return the branches."""
        y = x.new_zeros(self.coords.shape[0], x.shape[1], len(self.axes))
        for branch, bounds, shift, scales in self:
            i, o = self.inputs[bounds], self.outputs[bounds]
            y[:, :, branch].index_add_(0, o, _moved(x, shift)[i] * scales(o))
        return y

    def __iter__(self):
        for branch, (axis, kernels) in enumerate(zip(self.axes, self.kernels, strict=True)):
            for tap, place in taps_within(self.size, axis):
                bounds = slice(*self.bounds[tap])
                if axis == 0:
                    yield branch, bounds, 0, _OfChannels(kernels[:, 0, place])
                    continue
                for j, shift in enumerate(self.shifts):
                    scales = _OfPlanes(kernels[:, j, place], self.coords[:, axis])
                    yield branch, bounds, shift, scales


class _OfChannels:
    def __init__(self, kernel: Tensor) -> None:  # [C]
        self.kernel = kernel

    def __call__(self, rows: Tensor) -> Tensor:  # [C]
        return self.kernel

    def add(self, rows: Tensor, products: Tensor) -> None:  # [P'], [P', C]
        self.kernel += products.sum(0)


class _OfPlanes:
    def __init__(self, kernel: Tensor, plane: Tensor) -> None:  # [L], [M]
        self.kernel, self.plane = kernel, plane

    def __call__(self, rows: Tensor) -> Tensor:  # [P', 1]
        return self.kernel[self.plane[rows]][:, None]

    def add(self, rows: Tensor, products: Tensor) -> None:  # [P'], [P', C]
        self.kernel.index_add_(0, self.plane[rows], products.sum(1))


def _moved(
    rows: Tensor,  # [P', C]
    shift: int,
) -> Tensor:  # [P', C]
    """Return `rows[:, c + shift]`, zeros from outside."""
    moved, channels = torch.zeros_like(rows), rows.shape[1]
    if abs(shift) < channels:
        moved[:, max(-shift, 0) : channels - max(shift, 0)] = rows[
            :, max(shift, 0) : channels + min(shift, 0)
        ]
    return moved


def check_planes(
    coords: Tensor,  # [M, 4] int32
    planes: list[int],
    axes: list[int],
) -> None:
    """Refuse sites on planes that have no kernel.

    Raises:
        ValueError: there is one.
    """
    outside = torch.zeros(coords.shape[0], dtype=torch.bool, device=coords.device)
    for axis in axes:
        if axis:
            outside |= (coords[:, axis] < 0) | (coords[:, axis] >= planes[axis - 1])
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        site, lattice = tuple(coords[row, 1:].tolist()), tuple(int(n) for n in planes)
        expected = f"sites of the lattice this was made for, {lattice}"
        raise ValueError(
            complain("coords", expected, f"sites beyond it, such as {site} in row {row}")
        )
