"""SparseConvNet: sites, rulebooks and their sizes live in one metadata object of a net."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sparseconv.bench.engines.engine import Engine
from sparseconv.bench.engines.jobs import engine_jobs
from sparseconv.bench.problem import Problem
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.conv.submanifold import SubMConv3d

# all sites are different: nothing to merge
UNIQUE = 0


def _tensor(problem: Problem, features: Tensor) -> Any:
    import sparseconvnet

    sites = problem.coords[:, [1, 2, 3, 0]].long()
    extent = torch.tensor(problem.scene.extent)
    return sparseconvnet.InputLayer(3, extent, UNIQUE)((sites, features, 1))


def _layer(layer: Convolution, key: str) -> nn.Module:
    import sparseconvnet

    ends, size = (3, layer.in_channels, layer.out_channels), torch.tensor(layer.kernel_size)
    if isinstance(layer, SubMConv3d):
        return sparseconvnet.SubmanifoldConvolution(*ends, size, False)
    kind = sparseconvnet.Deconvolution if layer.transposed else sparseconvnet.Convolution
    return kind(*ends, size, torch.tensor(layer.stride), False)


def engine() -> Engine:
    """Return how SparseConvNet makes tensors and layers."""
    from sparseconvnet import SparseConvNetTensor

    return Engine(
        tensor=_tensor,
        layer=_layer,
        weight="weight",
        # [K, 1 group, C, D]
        pack=lambda taps: taps.flatten(0, 2)[:, None],
        unpack=lambda weight, size: weight.reshape(*size, *weight.shape[2:]),
        rows=lambda x: x.features,
        with_rows=lambda x, rows: SparseConvNetTensor(rows, x.metadata, x.spatial_size),
        coords=lambda x: x.get_spatial_locations()[:, [3, 0, 1, 2]].int(),
    )


JOBS = engine_jobs(engine)
