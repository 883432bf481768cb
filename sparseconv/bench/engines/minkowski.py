"""MinkowskiEngine: maps of sites and kernels live in a coordinate manager."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sparseconv.bench.engines.engine import Engine
from sparseconv.bench.engines.jobs import engine_jobs
from sparseconv.bench.problem import Problem
from sparseconv.nn.conv._base import Convolution


def _tensor(problem: Problem, features: Tensor) -> Any:
    import MinkowskiEngine

    return MinkowskiEngine.SparseTensor(features, problem.coords)


def _layer(layer: Convolution, key: str) -> nn.Module:
    import MinkowskiEngine

    kind = MinkowskiEngine.MinkowskiConvolution
    if layer.transposed:
        kind = MinkowskiEngine.MinkowskiConvolutionTranspose
    return kind(
        layer.in_channels,
        layer.out_channels,
        kernel_size=list(layer.kernel_size),
        stride=list(layer.stride),
        bias=False,
        dimension=3,
    )


def _with_rows(x: Any, rows: Tensor) -> Any:
    import MinkowskiEngine

    return MinkowskiEngine.SparseTensor(
        rows, coordinate_map_key=x.coordinate_map_key, coordinate_manager=x.coordinate_manager
    )


def _coords(x: Any) -> Tensor:
    # its sites are multiples of the stride
    return x.C // torch.tensor([1, *x.tensor_stride], dtype=torch.int32)


def engine() -> Engine:
    """Return how MinkowskiEngine makes tensors and layers."""
    return Engine(
        tensor=_tensor,
        layer=_layer,
        weight="kernel",
        # [K, C, D], of which the first axis runs fastest
        pack=lambda taps: taps.permute(2, 1, 0, 3, 4).flatten(0, 2),
        unpack=lambda weight, size: weight.reshape(*size[::-1], *weight.shape[1:]).permute(
            2, 1, 0, 3, 4
        ),
        rows=lambda x: x.F,
        with_rows=_with_rows,
        coords=_coords,
    )


JOBS = engine_jobs(engine)
