"""Open3D's sparse convolution of points: neighbours are searched anew by every layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparseconv.bench.engines.engine import Engine
from sparseconv.bench.engines.jobs import engine_jobs
from sparseconv.bench.problem import Problem
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.conv.submanifold import SubMConv3d


@dataclass(frozen=True, eq=False)
class Points:
    """Features at the centres of voxels, and the finer levels they came from.

    Attributes:
        rows: [N, C].
        sites: int64 [N, 3].
        finer: sites of the finer levels, the last one just below.
    """

    rows: Tensor
    sites: Tensor
    finer: tuple[Tensor, ...] = ()

    @property
    def centres(self) -> Tensor:
        """Places of the sites, float32 [N, 3], in voxels."""
        return self.sites + 0.5


def _first_child(sites: Tensor) -> Tensor:
    """Where its kernels of two taps an axis, moved by half a voxel, have a coarse site."""
    return 2 * sites + 0.5


class _Layer(nn.Module):
    """One of its layers, told where to read and where to write."""

    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        from open3d.ml.torch.layers import SparseConv, SparseConvTranspose

        kind = SparseConvTranspose if layer.transposed else SparseConv
        self.inner = kind(
            layer.in_channels, layer.out_channels, list(layer.kernel_size), use_bias=False
        )
        self.kernel = self.inner.kernel
        self.steps = not isinstance(layer, SubMConv3d)
        self.back = layer.transposed

    def forward(self, x: Points) -> Points:
        if not self.steps:
            centres = x.centres
            return replace(x, rows=self.inner(x.rows, centres, centres, 1.0))
        if self.back:
            fine = x.finer[-1]
            rows = self.inner(x.rows, _first_child(x.sites), fine + 0.5, 1.0)
            return Points(rows, fine, x.finer[:-1])
        coarse = torch.unique(x.sites // 2, dim=0)
        rows = self.inner(x.rows, x.centres, _first_child(coarse), 1.0)
        return Points(rows, coarse, (*x.finer, x.sites))


def _coords(x: Points) -> Tensor:
    return torch.cat([torch.zeros_like(x.sites[:, :1]), x.sites], 1).int()


def _turned(taps: Tensor) -> Tensor:
    """Exchange x and z of [kx, ky, kz, C, D]: its kernels begin with z."""
    return taps.permute(2, 1, 0, 3, 4)


def engine() -> Engine:
    """Return how Open3D makes tensors and layers."""

    def tensor(problem: Problem, features: Tensor) -> Any:
        return Points(features, problem.coords[:, 1:].long())

    return Engine(
        tensor=tensor,
        layer=lambda layer, key: _Layer(layer),
        weight="kernel",
        pack=_turned,
        unpack=lambda weight, size: _turned(weight),
        rows=lambda x: x.rows,
        with_rows=lambda x, rows: replace(x, rows=rows),
        coords=_coords,
    )


JOBS = engine_jobs(engine)
