"""Keep some of the active sites."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.ops._checks import describe
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.topology import ROOT, Level, Topology


def prune(
    x: SparseTensor,  # [N, C]
    keep: Tensor,  # [N] bool
) -> SparseTensor:
    """Drop the sites whose entry is False; the others keep their order.

    Args:
        x: [N, C].
        keep: bool [N].

    Returns:
        The kept sites, a topology of their own.

    Raises:
        ValueError: `keep` is not bool [N].
    """
    if keep.dtype != torch.bool or keep.dim() != 1 or keep.shape[0] != x.features.shape[0]:
        raise ValueError(complain("keep", f"bool [{x.features.shape[0]}]", describe(keep)))
    rows = torch.nonzero(keep).squeeze(1)
    level = Level(x.coords[rows], x.stride, x.spatial_shape, x.batch_size)
    return SparseTensor.at(Topology.of(level), ROOT, x.features[rows])
