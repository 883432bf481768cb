"""What a sparse convolution is, in Python integers and plain loops, knowing nothing of the library.

This file is the yardstick: it may import numpy and torch, never the code it judges. One equation
decides everything: tap `i` of output site `o` reads the input site
`o * stride - padding + i * dilation` of the same batch item.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as dense

Site = tuple[int, int, int, int]
Triple = tuple[int, int, int]
MAX_CELLS = 20_000_000


def spread(value: int | Sequence[int]) -> Triple:
    """Return three ints from one or three."""
    x, y, z = (value,) * 3 if isinstance(value, int) else value
    return int(x), int(y), int(z)


@dataclass(frozen=True)
class Spec:
    """The integers of one convolution.

    Attributes:
        kernel: taps per axis.
        stride: voxels.
        left: padding before the first site, voxels.
        right: padding after the last site, voxels.
        dilation: voxels between taps.
    """

    kernel: Triple
    stride: Triple
    left: Triple
    right: Triple
    dilation: Triple

    @classmethod
    def of(cls, kernel, stride=1, padding: int | Sequence[int] | str = 0, dilation=1) -> Spec:
        """Read the arguments of `torch.nn.Conv3d`; `"same"` pads the far side more."""
        size, step, gap = spread(kernel), spread(stride), spread(dilation)
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(gap, size, strict=True)]
            left = spread([t // 2 for t in total])
            return cls(size, step, left, spread([t - t // 2 for t in total]), gap)
        pads = spread(0 if padding == "valid" else padding)
        return cls(size, step, pads, pads, gap)

    @property
    def taps(self) -> list[Triple]:
        """All taps, x-major."""
        return list(product(*(range(k) for k in self.kernel)))

    def reads(self, site: Site, tap: Triple) -> Site:
        """Return the input site that a tap of an output site reads."""
        b, *o = site
        x, y, z = (
            o[a] * self.stride[a] - self.left[a] + tap[a] * self.dilation[a] for a in range(3)
        )
        return b, x, y, z

    def output_shape(self, shape: Triple) -> Triple:
        """Return the extent of the output: all o whose whole kernel fits the padded input."""
        return spread(
            [
                max(0, (n + lo + hi - d * (k - 1) - 1) // s + 1)
                for n, lo, hi, d, k, s in zip(
                    shape,
                    self.left,
                    self.right,
                    self.dilation,
                    self.kernel,
                    self.stride,
                    strict=True,
                )
            ]
        )

    def transposed_shape(self, shape: Triple, extra: Triple = (0, 0, 0)) -> Triple:
        """Return the extent of the output of the transposed convolution."""
        return spread(
            [
                max(0, (n - 1) * s - lo - hi + d * (k - 1) + e + 1)
                for n, lo, hi, d, k, s, e in zip(
                    shape,
                    self.left,
                    self.right,
                    self.dilation,
                    self.kernel,
                    self.stride,
                    extra,
                    strict=True,
                )
            ]
        )


def sites_of(coords: Tensor) -> list[Site]:
    """Return the rows of a coordinate tensor as tuples."""
    return [tuple(row) for row in coords.tolist()]


def z_place(site: Site) -> tuple[int, int]:
    """Return what sorts sites in Z-order: the item, then the bits of x, y, z interleaved."""
    item, *xyz = site
    # a bit more than int32 has, for sites to be refused
    planes = ("".join(digits) for digits in zip(*(f"{v + 2**32:033b}" for v in xyz), strict=True))
    return item, int("".join(planes), 2)


def inside(site: Site, shape: Triple | None) -> bool:
    """Return whether a site lies in `[0, shape)`; everything does where there is no shape."""
    return shape is None or all(0 <= v < n for v, n in zip(site[1:], shape, strict=True))


def conv_sites(sites: Iterable[Site], spec: Spec, shape: Triple | None = None) -> list[Site]:
    """Return the output sites of which some tap reads an active site, in Z-order.

    Args:
        sites: active input sites.
        spec: the convolution.
        shape: extent of the input, or None where unbounded.
    """
    bound = None if shape is None else spec.output_shape(shape)
    found = set()
    for b, *q in set(sites):
        for tap in spec.taps:
            parts = [
                divmod(q[a] + spec.left[a] - tap[a] * spec.dilation[a], spec.stride[a])
                for a in range(3)
            ]
            if all(rest == 0 for _, rest in parts):
                site = (b, *(whole for whole, _ in parts))
                if inside(site, bound):
                    found.add(site)
    return sorted(found, key=z_place)


def transposed_sites(
    sites: Iterable[Site], spec: Spec, shape: Triple | None = None, extra: Triple = (0, 0, 0)
) -> list[Site]:
    """Return the sites in Z-order that a tap of an active site reaches; `extra` pads the output."""
    bound = None if shape is None else spec.transposed_shape(shape, extra)
    reached = {spec.reads(site, tap) for site in sites for tap in spec.taps}
    return sorted((site for site in reached if inside(site, bound)), key=z_place)


def triples(
    in_sites: Sequence[Site], out_sites: Sequence[Site], spec: Spec
) -> set[tuple[int, int, int]]:
    """Return every (input row, output row, tap number) of a convolution.

    The lowest row counts where a site occurs twice among the inputs.
    """
    row_of: dict[Site, int] = {}
    for row, site in enumerate(in_sites):
        row_of.setdefault(site, row)
    return {
        (row_of[q], o, t)
        for o, site in enumerate(out_sites)
        for t, tap in enumerate(spec.taps)
        if (q := spec.reads(site, tap)) in row_of
    }


def transposed_triples(
    in_sites: Sequence[Site], out_sites: Sequence[Site], spec: Spec
) -> set[tuple[int, int, int]]:
    """Return every (input row, output row, tap number) of a transposed convolution."""
    return {(i, o, t) for o, i, t in triples(out_sites, in_sites, spec)}


def by_tap(pairs: Iterable[tuple[int, int, int]], taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return `in_rows`, `out_rows`, `segments` sorted by (tap, output row, input row)."""
    ordered = sorted((t, o, i) for i, o, t in pairs)
    counts = [sum(1 for t, _, _ in ordered if t < limit) for limit in range(taps + 1)]
    in_rows = torch.tensor([i for _, _, i in ordered], dtype=torch.int32)
    out_rows = torch.tensor([o for _, o, _ in ordered], dtype=torch.int32)
    return in_rows, out_rows, torch.tensor(counts, dtype=torch.int64)


def convolve(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    pairs: Iterable[tuple[int, int, int]],
    num_out: int,
    groups: int = 1,
) -> Tensor:  # [M, D]
    """Add `x[i] W[t]` to row o for every triple, group by group, in float64."""
    x, w = features.double(), weight.double()
    per_group, width = w.shape[1], w.shape[2] // groups
    y = torch.zeros(num_out, w.shape[2], dtype=torch.float64)
    if bias is not None:
        y = y + bias.double()
    for i, o, t in sorted(pairs):
        for g in range(groups):
            to, of = slice(g * width, (g + 1) * width), slice(g * per_group, (g + 1) * per_group)
            y[o, to] += x[i, of] @ w[t, :, to]
    return y


def weight_by_tap(weight: Tensor) -> Tensor:
    """Arrange `torch.nn.Conv3d`'s weight [D, C / G, kx, ky, kz] as [K, C / G, D], tap by tap."""
    _, _, kx, ky, kz = weight.shape
    taps = [weight[:, :, ix, iy, iz].T for ix, iy, iz in product(range(kx), range(ky), range(kz))]
    return torch.stack(taps)


def densify(
    sites: Sequence[Site],
    features: Tensor,  # [N, C]
    shape: Triple,
    batch_size: int,
    origin: Triple = (0, 0, 0),
) -> Tensor:  # [B, C, X, Y, Z]
    """Write rows on a grid of zeros, the first row where a site occurs twice.

    Raises:
        MemoryError: the grid would hold more than `MAX_CELLS` numbers.
        IndexError: a site lies outside the grid.
    """
    cells = batch_size * features.shape[1] * math.prod(shape)
    if cells > MAX_CELLS:
        raise MemoryError(f"shape: expected at most {MAX_CELLS} numbers on the grid, found {cells}")
    grid = features.new_zeros(batch_size, features.shape[1], *shape)
    if not sites:
        return grid
    rows: dict[Site, int] = {}
    for row, (b, *xyz) in enumerate(sites):
        place = (b, *(v - a for v, a in zip(xyz, origin, strict=True)))
        if not inside(place, shape):
            raise IndexError(f"sites: expected sites on the grid, found {(b, *xyz)}")
        rows.setdefault(place, row)
    b, x, y, z = (torch.tensor(column) for column in zip(*rows, strict=True))
    return grid.index_put(
        (b[:, None], torch.arange(features.shape[1])[None], x[:, None], y[:, None], z[:, None]),
        features[torch.tensor(list(rows.values()))],
    )


def read(
    grid: Tensor,  # [B, C, X, Y, Z]
    sites: Sequence[Site],
    origin: Triple = (0, 0, 0),
) -> Tensor:  # [N, C]
    """Read the rows of a grid at the given sites."""
    b, x, y, z = torch.tensor(sites, dtype=torch.int64).reshape(-1, 4).unbind(1)
    return grid[b, :, x - origin[0], y - origin[1], z - origin[2]]


def dense_conv(
    grid: Tensor,  # [B, C, X, Y, Z]
    weight: Tensor,  # [D, C / G, kx, ky, kz]
    bias: Tensor | None,
    spec: Spec,
    groups: int = 1,
) -> Tensor:
    """Convolve a grid with torch, padding each side by itself so that "same" needs no case."""
    pads = [v for a in (2, 1, 0) for v in (spec.left[a], spec.right[a])]
    return dense.conv3d(dense.pad(grid, pads), weight, bias, spec.stride, 0, spec.dilation, groups)


def pool(
    features: Tensor,  # [N, C]
    pairs: Iterable[tuple[int, int, int]],
    num_out: int,
    how: str,
) -> Tensor:  # [M, C]
    """Reduce the inputs of each output row by `"max"`, `"sum"` or `"mean"`; 0 where none."""
    reduce = {"max": lambda v: v.amax(0), "sum": lambda v: v.sum(0), "mean": lambda v: v.mean(0)}
    rows: dict[int, list[int]] = {}
    for i, o, _ in sorted(pairs):
        rows.setdefault(o, []).append(i)
    y = features.new_zeros(num_out, features.shape[1])
    for o, members in rows.items():
        y[o] = reduce[how](features[members])
    return y


def interpolate(
    sites: Sequence[Site],
    features: Tensor,  # [N, C]
    points: Sequence[Sequence[float]],
    *,
    normalize: bool = False,
) -> Tensor:  # [Q, C]
    """Sum over active sites of `x[s]` times the product over axes of `max(0, 1 - |p - s|)`."""
    y = torch.zeros(len(points), features.shape[1], dtype=torch.float64)
    for q, (b, *p) in enumerate(points):
        total = 0.0
        for row, (item, *s) in enumerate(sites):
            if item != b:
                continue
            w = math.prod(max(0.0, 1 - abs(p[a] - s[a])) for a in range(3))
            y[q] += w * features[row].double()
            total += w
        if normalize and total > 0:
            y[q] /= total
    return y
