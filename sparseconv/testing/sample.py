"""One call of a primitive, and rulebooks to call it with.

The pairs come from the oracle, not from the library.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sparseconv.testing import oracle
from sparseconv.testing.scenes import scene


@dataclass(frozen=True)
class Sample:
    """One call of a primitive.

    Attributes:
        op: its name in `torch.ops.sparseconv`.
        label: what is special about the call.
        args: positional arguments.
    """

    op: str
    label: str
    args: tuple

    def __str__(self) -> str:
        return f"{self.op}-{self.label}"

    def overload(self) -> torch._ops.OpOverload:
        """Return the registered op."""
        return getattr(torch.ops.sparseconv, self.op).default

    def with_grad(self) -> tuple:
        """Return the arguments, floating ones as leaves that want gradients."""
        return tuple(
            a.detach().clone().requires_grad_()
            if isinstance(a, Tensor) and a.is_floating_point()
            else a
            for a in self.args
        )


def pairs_of(
    name: str, *geometry: object, onto_itself: bool = False
) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """Return in_rows, out_rows, segments, N, M of a convolution of a scene, by the oracle.

    Args:
        name: of the scene.
        *geometry: of the kernel.
        onto_itself: whether the output sites are the input sites.
    """
    spec, view = oracle.Spec.of(*geometry), scene(name)
    sites = oracle.sites_of(view.coords)
    out = sites if onto_itself else oracle.conv_sites(sites, spec, view.spatial_shape)
    found = oracle.triples(sites, out, spec)
    return *oracle.by_tap(found, len(spec.taps)), len(sites), len(out)


def shuffled(in_rows: Tensor, out_rows: Tensor, segments: Tensor, seed: int = 0):
    """Put the pairs of each tap in another order: kernels may not rely on any."""
    rng = torch.Generator().manual_seed(seed)
    bounds = segments.tolist()
    order = [
        start + torch.randperm(stop - start, generator=rng) for start, stop in pairwise(bounds)
    ]
    rows = torch.cat(order) if order else torch.zeros(0, dtype=torch.int64)
    return in_rows[rows], out_rows[rows], segments


CASES = {
    "submanifold": ("empty_batch_item", 3, 1, 1),
    "strided": ("one_voxel", 2, 2),
    "dilated": ("line", (1, 1, 3), 1, (0, 0, 2), 2),
    "empty": ("empty", 3, 1, 1),
}
