"""Sums and comparisons of sparse tensors whose sites may differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sparseconv._errors import complain
from sparseconv.ops.aggregate import aggregate
from sparseconv.ops.coords import unique_coords
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.topology import ROOT, Level, Topology


def check_same_lattice(a: SparseTensor, b: SparseTensor) -> None:
    """Refuse two tensors of different stride, extent or batch size.

    Raises:
        ValueError: they differ; the message says in what.
    """
    for name in ("stride", "spatial_shape", "batch_size", "device"):
        left, right = getattr(a, name), getattr(b, name)
        if left != right:
            raise ValueError(complain(name, f"the first tensor's {left}", f"{right}"))


def same_sites(a: SparseTensor, b: SparseTensor) -> bool:
    """Return whether both have the same sites in the same order, comparing where not known."""
    if a.shares_sites(b):
        return True
    if torch.compiler.is_compiling():
        return False
    return a.coords.shape == b.coords.shape and torch.equal(a.coords, b.coords)


def add(a: SparseTensor, b: SparseTensor) -> SparseTensor:
    """Add two tensors site by site; a site of one alone keeps its value.

    Args:
        a: [N, C].
        b: [M, C], of the same stride, spatial shape and batch size.

    Returns:
        Rows of `a` where both have the same sites, else the union in Z-order.

    Raises:
        ValueError: channels or lattices differ.
    """
    check_same_lattice(a, b)
    if a.channels != b.channels:
        raise ValueError(complain("other", f"{a.channels} channels", f"{b.channels}"))
    if same_sites(a, b):
        return a.replace(features=a.features + b.features)
    coords, inverse, _, _ = unique_coords(torch.cat([a.coords, b.coords]))
    features = torch.cat([a.features, b.features])
    rows = torch.arange(features.shape[0], dtype=torch.int32, device=features.device)
    total = aggregate(features, rows, inverse.to(torch.int32), None, coords.shape[0])
    level = Level(coords, a.stride, a.spatial_shape, a.batch_size)
    return SparseTensor.at(Topology.of(level), ROOT, total)


def cat(tensors: Sequence[SparseTensor]) -> SparseTensor:
    """Put the channels of tensors of the same sites side by side.

    Args:
        tensors: one or more, [N, C_j], with the same sites in the same order.

    Returns:
        [N, sum C_j], with the sites of the first.

    Raises:
        ValueError: none given, or the sites differ.
    """
    tensors = list(tensors)
    if not tensors:
        raise ValueError(complain("tensors", "at least one sparse tensor", "none"))
    first = tensors[0]
    for other in tensors[1:]:
        check_same_lattice(first, other)
        if not same_sites(first, other):
            raise ValueError(
                complain(
                    "tensors",
                    "the same sites in the same order",
                    f"{first.features.shape[0]} and {other.features.shape[0]} sites that differ",
                    "add them with x + y, or bring one onto the other's sites with "
                    "SparseInverseConv3d or sites=",
                )
            )
    return first.replace(features=torch.cat([t.features for t in tensors], 1))


@dataclass(frozen=True)
class Comparison:
    """How two sparse tensors differ.

    Attributes:
        only_a: sites of the first alone.
        only_b: sites of the second alone.
        common: sites of both.
        max_abs: largest absolute difference of features at common sites.
        max_rel: the same over the largest absolute feature of the first.
        same_order: whether common sites come in the same rows.
    """

    only_a: int
    only_b: int
    common: int
    max_abs: float
    max_rel: float
    same_order: bool

    @property
    def equal(self) -> bool:
        """Whether sites and features are the same, whatever the row order."""
        return self.only_a == 0 and self.only_b == 0 and self.max_abs == 0.0


def compare(a: SparseTensor, b: SparseTensor) -> Comparison:
    """Compare two sparse tensors site by site, whatever their row order.

    Args:
        a: [N, C].
        b: [M, C].

    Returns:
        Counts of sites and the largest differences; `compare(a, b).equal` for a yes or no.

    Raises:
        ValueError: channels differ.
    """
    if a.channels != b.channels:
        raise ValueError(complain("b", f"{a.channels} channels", f"{b.channels}"))
    rows = b.lookup(a.coords)
    here = rows >= 0
    common = int(here.sum())
    wide = torch.promote_types(a.dtype, b.dtype)
    left = a.features.detach()[here].to(wide)
    right = b.features.detach()[rows[here]].to(wide)
    gap = (left - right).abs()
    # equal infinities are equal; NaN against NaN too
    same = (left == right) | (left.isnan() & right.isnan())
    gap = torch.where(same, torch.zeros_like(gap), gap)
    gap = torch.where(gap.isnan(), torch.inf, gap)
    max_abs = float(gap.max()) if gap.numel() else 0.0
    scale = float(left.abs().max()) if left.numel() else 0.0
    relative = max_abs / scale if scale > 0 else (0.0 if max_abs == 0 else float("inf"))
    order = torch.arange(len(a), device=a.device)
    return Comparison(
        only_a=len(a) - common,
        only_b=len(b) - common,
        common=common,
        max_abs=max_abs,
        max_rel=relative,
        same_order=len(a) == len(b) and bool((rows == order).all()),
    )
