"""Several scans in one sparse tensor, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparseconv._errors import complain
from sparseconv.tensor.merge import merge
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.topology import ROOT, Level, Topology


def batch(tensors: Sequence[SparseTensor]) -> SparseTensor:
    """Join sparse tensors into one whose batch items are theirs, in order.

    Levels and rulebooks that every tensor has built are joined too, and not built again; see
    `sparseconv.tensor.merge`.

    Args:
        tensors: one or more of the same channels, stride and dtype; each may be a batch itself
            and may be empty.

    Returns:
        All rows in order, at the root of a topology; the spatial shape is the largest, or None
        where one is None.

    Raises:
        ValueError: none given, or channels, strides, dtypes or devices differ.
    """
    tensors = list(tensors)
    if not tensors:
        raise ValueError(complain("tensors", "at least one sparse tensor", "none"))
    first = tensors[0]
    for number, tensor in enumerate(tensors):
        for name in ("channels", "stride", "dtype", "device"):
            if getattr(tensor, name) != getattr(first, name):
                raise ValueError(
                    complain(
                        f"tensors[{number}]",
                        f"{name} {getattr(first, name)} as the first",
                        f"{getattr(tensor, name)}",
                    )
                )
    # an empty scan made without a batch size is still one scan
    sizes = [max(tensor.batch_size, 1) for tensor in tensors]
    shapes = [tensor.spatial_shape for tensor in tensors]
    shape = None
    if all(s is not None for s in shapes):
        shape = tuple(max(values) for values in zip(*shapes, strict=True))
    topology = merge([(tensor.topology, tensor.level) for tensor in tensors], shape, sizes)
    return SparseTensor.at(topology, ROOT, torch.cat([tensor.features for tensor in tensors]))


def unbatch(x: SparseTensor) -> list[SparseTensor]:
    """Split a sparse tensor into its scans.

    Args:
        x: [N, C].

    Returns:
        `x.batch_size` tensors of batch size 1, rows in their order, empty ones included.
    """
    column = x.coords[:, 0]
    parts = []
    for item in range(x.batch_size):
        rows = torch.nonzero(column == item).squeeze(1)
        coords = x.coords[rows]
        coords = torch.cat([torch.zeros_like(coords[:, :1]), coords[:, 1:]], 1)
        level = Level(coords, x.stride, x.spatial_shape, 1)
        parts.append(SparseTensor.at(Topology.of(level), ROOT, x.features[rows]))
    return parts
