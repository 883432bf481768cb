"""Checks of layers whose sites read a larger kernel at places they predict."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn

from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing import oracle
from sparseconv.testing.scenes import scene

EXACT = {"rtol": 1e-9, "atol": 1e-9}

# kernel size, stride, padding, dilation, and what else the layer is made with
CASES = {
    "plain": (3, 1, "subm", 1, {}),
    "groups": (3, 1, "subm", 1, {"rotation_groups": 2, "bias": True}),
    "dilated": ((1, 3, 3), 1, "subm", 2, {"scope": (2, 3, 4), "clip": "scope"}),
    "strided": (2, 2, 1, 1, {"scope": 3, "clip": (-0.5, 0.25), "rotation_groups": 4}),
}


def stirred(layer: nn.Module, spread: float = 0.2) -> nn.Module:
    """Draw the offsets' parameters too, so that what they place moves by one or so."""
    for parameter in layer.conv_offset.parameters():
        torch.nn.init.normal_(parameter, std=spread)
    return layer.double()


def read_kernel(
    weight: Tensor,  # [C, 1, Sx, Sy, Sz]
    q: Tensor,  # [M, R, 3]
) -> Tensor:  # [M, C]
    """Return the kernel at places, channel c at those of group c % R."""
    turn = torch.arange(weight.shape[0]) % q.shape[1]
    total = 0
    for cell in product(*(range(n) for n in weight.shape[2:])):
        near = (1 - (q - torch.tensor(cell)).abs()).clamp(min=0).prod(-1)
        total = total + near[:, turn] * weight[(slice(None), 0, *cell)]
    return total


def place_in_kernel(layer: nn.Module, tap: tuple, spec: oracle.Spec, move: Tensor) -> Tensor:
    """Return where a tap reads the kernel, `[M, R, 3]`, of the offsets predicted for it."""
    scope = torch.tensor(layer.weight.shape[2:])
    if isinstance(layer.clip, tuple):
        move = move.clamp(*layer.clip)
    q = torch.tensor(tap) + (scope - torch.tensor(spec.kernel)) / 2 + move
    return torch.minimum(q.clamp(min=0), scope - 1.0) if layer.clip == "scope" else q


def check(
    kind: type[nn.Module], expected: Callable[..., Tensor], case: str, rows: int, channels: int = 4
) -> None:
    """Hold a layer and all its gradients against a formula.

    Args:
        kind: of layer.
        expected: `expected(layer, x, spec, sites)`, the formula, [M, C].
        case: of `CASES`.
        rows: sites of the scene, as many as the formula has time for.
        channels: C.

    Raises:
        AssertionError: sites, results or gradients differ.
    """
    *shape, options = CASES[case]
    scope = options.get("scope", 4)
    rest = {name: value for name, value in options.items() if name != "scope"}
    layer = stirred(kind(channels, scope, *shape, **rest))
    x = scene("random_sparse").tensor(channels)
    x = SparseTensor(x.coords[:rows], x.features[:rows], x.spatial_shape, x.batch_size)
    features = x.features.requires_grad_()
    spec = oracle.Spec.of(*("same" if value == "subm" else value for value in shape))
    sites = oracle.sites_of(x.coords)
    if shape[2] != "subm":
        sites = oracle.conv_sites(sites, spec, x.spatial_shape)
    y = layer(x)
    assert oracle.sites_of(y.coords) == sites
    right = expected(layer, x, spec, sites)
    torch.testing.assert_close(y.features, right, **EXACT)
    leaves, probe = (features, *layer.parameters()), torch.randn_like(right)
    ours = torch.autograd.grad(y.features, leaves, probe)
    wanted = torch.autograd.grad(right, leaves, probe)
    for a, b in zip(ours, wanted, strict=True):
        assert b.any()
        torch.testing.assert_close(a, b, **EXACT)
