"""Tensors of two resolutions, and the ways between them, on active sites and on full grids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as dense

from sparseconv._errors import complain
from sparseconv.functional.conv import by_tap
from sparseconv.functional.parents import block_mean, blocks, parents, to_children
from sparseconv.geometry import Geometry
from sparseconv.ops.conv import conv
from sparseconv.ops.octave import octave_conv
from sparseconv.tensor.sparse_tensor import SparseTensor

Either = SparseTensor | Tensor
POOLS = ("present", "kernel")


class Path(Protocol):
    """A convolution: what `nn.conv` keeps as weight, bias and geometry."""

    weight: Tensor
    bias: Tensor | None
    geometry: Geometry
    groups: int

    def dense_conv3d(self, x: Tensor) -> Tensor:
        """Convolve a full grid."""


@dataclass(frozen=True)
class OctTensor:
    """Features at two resolutions.

    Attributes:
        high: at the sites, sparse [N, C_H] or dense [B, C_H, X, Y, Z].
        low: at the parents `floor(site / 2)` of those sites, sparse [M, C_L] or dense
            [B, C_L, ceil(X / 2), ceil(Y / 2), ceil(Z / 2)].
    """

    high: Either
    low: Either

    @property
    def channels(self) -> tuple[int, int]:
        """Channels of the high and of the low part."""
        high, low = (
            part.channels if isinstance(part, SparseTensor) else part.shape[1]
            for part in (self.high, self.low)
        )
        return high, low

    def apply(self, change: Callable[[Either], Either]) -> OctTensor:
        """Return both parts changed alike, such as by an activation; sites must stay."""
        return OctTensor(change(self.high), change(self.low))

    def check(self) -> None:
        """Refuse a low part that is not at the parents of the high one.

        Raises:
            ValueError: it is not.
        """
        if isinstance(self.high, Tensor) or isinstance(self.low, Tensor):
            if not (isinstance(self.high, Tensor) and isinstance(self.low, Tensor)):
                raise ValueError(complain("low", "sparse or dense as the high part", "the other"))
            extent = [-(-n // 2) for n in self.high.shape[2:]]
            if list(self.low.shape[2:]) != extent:
                raise ValueError(complain("low", f"a grid {extent}", f"{list(self.low.shape[2:])}"))
            return
        shares = self.low.topology is self.high.topology
        if not shares or self.low.level != parents(self.high, 2):
            raise ValueError(
                complain(
                    "low",
                    "a tensor at the parents of the high part's sites, of the same topology",
                    f"one at the level {self.low.level!r}",
                    "make it by split_octaves or an OctaveConv3d, and change neither part's sites",
                )
            )


def check_pool(pool: str) -> None:
    """Refuse a kind of mean that does not exist."""
    if pool not in POOLS:
        raise ValueError(complain("pool", "'present' or 'kernel'", repr(pool)))


def split_octaves(x: Either, low: int, pool: str = "present") -> OctTensor:
    """Pool the last channels of a tensor to the parents of its sites.

    Args:
        x: sparse [N, C] or dense [B, C, X, Y, Z].
        low: how many channels.
        pool: mean over the children there are (`"present"`) or over all eight (`"kernel"`).

    Returns:
        The other channels and the pooled ones.

    Raises:
        ValueError: no such pool, or not so many channels.
    """
    check_pool(pool)
    values = x.features if isinstance(x, SparseTensor) else x
    if not 0 < low < values.shape[1]:
        raise ValueError(complain("low", f"1..{values.shape[1] - 1} channels", f"{low}"))
    near, far = values.split([values.shape[1] - low, low], 1)
    where = Resolution.of(x, pool)
    if isinstance(x, SparseTensor):
        near, far = x.replace(features=near), x.replace(features=far)
    return OctTensor(near, where.pooled(far, 2))


def join_octaves(x: OctTensor) -> Either:
    """Return one tensor at the high part's sites: its channels, then copies of the low part's."""
    copied = Resolution.of(x.high, "present").lifted(x.low, x.high)
    if isinstance(x.high, Tensor):
        return torch.cat([x.high, copied], 1)
    return x.high.replace(features=torch.cat([x.high.features, copied.features], 1))


def exchange(
    high: SparseTensor,  # [N, C], or [N, C_H] beside `low`
    low: SparseTensor | None,  # [M, C_L]
    paths: Sequence[Path],
    pool: str,
) -> tuple[Tensor, Tensor]:
    """Convolve both parts at once, where all four convolutions have odd kernels and one group.

    Args:
        high: the high part, or a tensor whose last channels are the low one.
        low: the low part, or None.
        paths: from high to high, high to low, low to high, low to low.
        pool: as for `split_octaves`.

    Returns:
        The high and the low part's features, or those of both side by side and nothing.
    """
    topology, of = high.topology, blocks(high.spatial_shape, 2)
    level, geometry = topology.down(high.level, of), paths[0].geometry
    family = topology.rulebook(high.level, level, of)
    books = [topology.rulebook(each, each, geometry) for each in (high.level, level)]
    num, num_low = high.features.shape[0], topology.levels[level].coords.shape[0]
    counts = family.pair_counts(num_low)
    if pool == "kernel":
        counts = torch.full_like(counts, family.taps)
    biases = [path.bias for path in paths[:2] if path.bias is not None]
    return octave_conv(
        high.features,
        None if low is None else low.features,
        tuple(by_tap(path.weight) for path in paths),
        torch.cat(biases) if biases else None,
        *((book.in_rows, book.out_rows, book.segments) for book in books),
        # off the CPU nothing reads it
        family.by_row(num_low) if high.features.device.type == "cpu" else None,
        family.out_row_of(num),
        counts,
    )


class Resolution:
    """The ways between resolutions and the convolutions on one, whatever kind of tensor."""

    def __init__(self, pool: str) -> None:
        self.pool = pool

    @staticmethod
    def of(x: Either, pool: str) -> Resolution:
        """Return those of sparse or of dense tensors."""
        return _OnGrid(pool) if isinstance(x, Tensor) else _AtSites(pool)

    def pooled(self, x: Either, size: int) -> Either:
        """Average over blocks of `size` cells an axis: 2, or 4 in one step."""
        raise NotImplementedError

    def pooled_low(self, x: Either) -> Either:
        """Average a low part over blocks of 2."""
        return self.pooled(x, 2)

    def lifted(self, low: Either, high: Either) -> Either:
        """Copy each parent to its children, which are the sites of `high`."""
        raise NotImplementedError

    def summed(self, paths: Sequence[tuple[Path | None, Either]]) -> Either | None:
        """Return the sum of convolutions onto one set of sites; None where there is none."""
        raise NotImplementedError

    @staticmethod
    def plus(a: Either | None, b: Either | None) -> Either | None:
        """Add two parts at the same sites, either of which may be absent."""
        if a is None or b is None:
            return b if a is None else a
        if isinstance(a, Tensor):
            return a + b
        return a.replace(features=a.features + b.features)


class _AtSites(Resolution):
    def pooled(self, x: SparseTensor, size: int) -> SparseTensor:
        if size == 2:
            return block_mean(x, 2, None, self.pool)
        # the parents of the parents: one mean of all their descendants
        near = SparseTensor.at(x.topology, parents(x, 2), x.features)
        return block_mean(x, 4, parents(near, 2), self.pool)

    def lifted(self, low: SparseTensor, high: SparseTensor) -> SparseTensor:
        return high.replace(
            features=to_children(low.features, high.topology, high.level, low.level, 2)
        )

    def summed(self, paths: Sequence[tuple[Path | None, SparseTensor]]) -> SparseTensor | None:
        used = [(path, x) for path, x in paths if path is not None]
        if not used:
            return None
        if len(used) > 1 and any(path.groups > 1 for path, _ in used):
            done = None
            for each in used:
                done = self.plus(done, self.summed([each]))
            return done
        # one convolution of all inputs side by side: its sum over channels is the sum of them all
        (first, x), *_ = used
        weight = torch.cat([by_tap(path.weight) for path, _ in used], 1)
        features = torch.cat([each.features for _, each in used], 1)
        biases = [path.bias for path, _ in used if path.bias is not None]
        book = x.topology.rulebook(x.level, x.level, first.geometry)
        y = conv(
            features,
            weight,
            biases[0] if biases else None,
            book.in_rows,
            book.out_rows,
            book.segments,
            x.features.shape[0],
            first.groups,
            symmetric=book.symmetric,
        )
        return x.replace(features=y)


class _OnGrid(Resolution):
    def pooled(self, x: Tensor, size: int) -> Tensor:
        over = [side for n in reversed(x.shape[2:]) for side in (0, -n % size)]
        mean = dense.avg_pool3d(dense.pad(x, over), size)
        if self.pool == "kernel" or not any(over):
            return mean
        # blocks at the far sides hold fewer cells
        return mean / dense.avg_pool3d(dense.pad(torch.ones_like(x[:1, :1]), over), size)

    def lifted(self, low: Tensor, high: Tensor) -> Tensor:
        for axis in (2, 3, 4):
            low = low.repeat_interleave(2, axis).narrow(axis, 0, high.shape[axis])
        return low

    def summed(self, paths: Sequence[tuple[Path | None, Tensor]]) -> Tensor | None:
        done = None
        for path, x in paths:
            if path is not None:
                done = self.plus(done, path.dense_conv3d(x))
        return done
