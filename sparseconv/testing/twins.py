"""Compare a result with the oracle's: values, and gradients by everything it was made of."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing import oracle
from sparseconv.testing.tolerances import tolerance


def grid_of(x: SparseTensor) -> Tensor:
    """Return the zero-filled grid [B, C, X, Y, Z] of a bounded tensor, differentiable."""
    return oracle.densify(oracle.sites_of(x.coords), x.features, x.spatial_shape, x.batch_size)


def at_sites(grid: Tensor, y: SparseTensor) -> Tensor:
    """Return the rows [N, C] of a grid at the sites of a tensor."""
    return oracle.read(grid, oracle.sites_of(y.coords))


def occupied(x: SparseTensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the grid [B, 1, X, Y, Z] of ones at active sites and zeros elsewhere."""
    ones = torch.ones(len(x), 1, dtype=dtype)
    return oracle.densify(oracle.sites_of(x.coords), ones, x.spatial_shape, x.batch_size)


def assert_twins(
    found: Tensor,
    expected: Tensor,
    made_of: Iterable[Tensor],
    **close: float,
) -> None:
    """Assert close values, and close gradients of one random sum of them.

    Args:
        found: the library's result.
        expected: the oracle's, of the same shape.
        made_of: leaves both were computed from; those that need no gradient are left out.
        **close: `rtol` and `atol`; those of a formula if none are given.
    """
    close = close or tolerance(found.dtype, "formula")
    torch.testing.assert_close(found, expected, **close)
    leaves = [leaf for leaf in made_of if leaf.requires_grad]
    rng = torch.Generator().manual_seed(1)
    probe = torch.randn(found.shape, generator=rng, dtype=torch.float64).to(found.dtype)
    ours, theirs = (
        torch.autograd.grad((y * probe).sum(), leaves, allow_unused=True, retain_graph=True)
        for y in (found, expected)
    )
    for a, b, leaf in zip(ours, theirs, leaves, strict=True):
        a, b = (torch.zeros_like(leaf) if grad is None else grad for grad in (a, b))
        torch.testing.assert_close(a, b, **close)
