"""Layers that read between sites or drop some of them."""

from __future__ import annotations

from torch import Tensor, nn

from sparseconv.functional.interpolate import interpolate
from sparseconv.functional.prune import prune
from sparseconv.tensor.sparse_tensor import SparseTensor


class Interpolate(nn.Module):
    """Read features at any position (devoxelise); see `sparseconv.functional.interpolate`.

    Args:
        mode: `"trilinear"` or `"nearest"`.
        normalize: divide by the weight of the corners that are active.
    """

    def __init__(self, mode: str = "trilinear", normalize: bool = False) -> None:
        super().__init__()
        self.mode, self.normalize = mode, normalize

    def forward(
        self,
        x: SparseTensor,  # [N, C]
        points: Tensor,  # [Q, 4]
    ) -> Tensor:  # [Q, C]
        """Return features at `points`: batch item, then x, y, z in voxels of x's lattice."""
        return interpolate(x, points, mode=self.mode, normalize=self.normalize)


class Pruning(nn.Module):
    """Keep the active sites whose mask is True."""

    def forward(
        self,
        x: SparseTensor,  # [N, C]
        keep: Tensor,  # [N] bool
    ) -> SparseTensor:
        """Return the kept sites, in their order."""
        return prune(x, keep)
