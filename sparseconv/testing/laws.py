"""What must hold for every layer, whatever its weights; a broken law raises AssertionError."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sparseconv.tensor.batch import batch
from sparseconv.tensor.sparse_tensor import SparseTensor

Layer = Callable[[SparseTensor], SparseTensor]


def by_site(x: SparseTensor) -> tuple[Tensor, Tensor]:
    """Return coordinates and features with rows in lexicographic order."""
    coords = x.coords.to(torch.int64)
    order = torch.arange(len(x), device=x.device)
    for column in (3, 2, 1, 0):
        order = order[torch.argsort(coords[order, column], stable=True)]
    return x.coords[order], x.features[order]


def assert_same(a: SparseTensor, b: SparseTensor, **close: float) -> None:
    """Assert equal sites and close features, whatever the row order."""
    (left_sites, left), (right_sites, right) = by_site(a), by_site(b)
    torch.testing.assert_close(left_sites, right_sites, rtol=0, atol=0)
    torch.testing.assert_close(left, right, **close)


def like(x: SparseTensor, coords: Tensor, features: Tensor, **changed: object) -> SparseTensor:
    """Return a new tensor on the lattice of `x`, with a topology of its own."""
    known = {"spatial_shape": x.spatial_shape, "batch_size": x.batch_size, "stride": x.stride}
    return SparseTensor(coords, features, **{**known, **changed})


def permutation(layer: Layer, x: SparseTensor, *, seed: int = 0, **close: float) -> None:
    """Rows in another order give the same function of sites; kept sites keep their new order."""
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=rng)
    y, moved = layer(x), layer(like(x, x.coords[order], x.features[order]))
    assert_same(y, moved, **close)
    if len(y) == len(x) and torch.equal(y.coords, x.coords) and len(x):
        torch.testing.assert_close(moved.coords, x.coords[order], rtol=0, atol=0)


def translation(
    layer: Layer,
    x: SparseTensor,
    shift: Sequence[int],
    ratio: Sequence[float] = (1, 1, 1),
    **close: float,
) -> None:
    """Moving the sites moves the result.

    Args:
        layer: on trial.
        x: unbounded.
        shift: voxels along x, y, z.
        ratio: output voxels per input voxel; `shift * ratio` must be whole.
        **close: `rtol`, `atol`.
    """
    step = torch.tensor([0, *shift], dtype=torch.int32)
    out = [round(s * r) for s, r in zip(shift, ratio, strict=True)]
    y = layer(like(x, x.coords, x.features, spatial_shape=None))
    moved = layer(like(x, x.coords + step, x.features, spatial_shape=None))
    back = like(
        moved,
        moved.coords - torch.tensor([0, *out], dtype=torch.int32),
        moved.features,
        spatial_shape=None,
    )
    assert_same(y, back, **close)


def batch_independence(layer: Layer, parts: Sequence[SparseTensor], **close: float) -> None:
    """Scans together give what they give one by one."""
    together = layer(batch(parts)).unbatch()
    assert len(together) == len(parts)
    for joint, part in zip(together, parts, strict=True):
        assert_same(joint, layer(part), **close)


def isolation(layer: Layer, x: SparseTensor) -> None:
    """No scan's output depends on another scan's input: those gradients are exactly zero."""
    features = x.features.detach().clone().requires_grad_()
    y = layer(x.replace(features=features))
    for item in range(x.batch_size):
        mine = y.features[y.coords[:, 0] == item]
        if not mine.numel():
            continue
        (grad,) = torch.autograd.grad(mine.square().sum(), features, retain_graph=True)
        strangers = grad[x.coords[:, 0] != item]
        assert not strangers.any(), f"scan {item} reads another scan"


def linearity(layer: Layer, x: SparseTensor, *, seed: int = 0, **close: float) -> None:
    """`A(2x - 3z) = 2 A(x) - 3 A(z)` for a layer without bias."""
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(x.features.shape, generator=rng, dtype=torch.float64).to(x.dtype)
    mixed = layer(x.replace(features=2 * x.features - 3 * z)).features
    parts = 2 * layer(x).features - 3 * layer(x.replace(features=z)).features
    torch.testing.assert_close(mixed, parts, **close)


def adjoint(
    forward: Layer,
    back: Layer,
    x: SparseTensor,
    *,
    seed: int = 0,
    **close: float,
) -> None:
    """`<A x, y> = <x, A' y>`: finds every error in a reversed rulebook without a reference.

    Args:
        forward: A, without bias.
        back: its adjoint, from the sites of `A x` to the sites of `x` in their order.
        x: input.
        seed: of y.
        **close: `rtol`, `atol`.
    """
    rng = torch.Generator().manual_seed(seed)
    y = forward(x)
    probe = torch.randn(y.features.shape, generator=rng, dtype=torch.float64).to(y.dtype)
    returned = back(y.replace(features=probe))
    torch.testing.assert_close(returned.coords, x.coords, rtol=0, atol=0)
    left = (y.features * probe).sum()
    right = (x.features * returned.features).sum()
    torch.testing.assert_close(left, right, **close)
