"""Sample arguments of the primitives that read between sites, and of attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sparseconv.ops.attention import ragged_attention
from sparseconv.ops.blocks import block_index
from sparseconv.testing.sample import CASES, Sample, pairs_of, shuffled
from sparseconv.testing.scenes import scene


def sampling(dtype: torch.dtype = torch.float64, seed: int = 0) -> Iterator[Sample]:
    """Yield samples of the primitives differentiable once: sampling between sites, attention.

    Positions keep away from integers, where the derivative jumps.
    """
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    def between(coords: Tensor, groups: int) -> Tensor:
        cell = torch.randint(-1, 2, (len(coords), 2, groups, 3), generator=rng)
        fraction = 0.1 + 0.8 * torch.rand(cell.shape, generator=rng, dtype=torch.float64)
        near = coords[:, None, None, 1:] + cell + fraction
        return near.to(torch.promote_types(dtype, torch.float32))

    for label in ("empty_batch_item", "one_voxel", "negative", "empty"):
        view = scene(label)
        coords, m = view.coords[:9], min(3, len(view.coords))
        n, blocks = len(coords), block_index(coords)
        items = coords[:m, 0].contiguous()

        where = coords, blocks, items
        p = between(coords[:m], 2)
        x, w, g = normal(n, 4), normal(m, 2, 2), normal(m, 4)
        for means, name in ((False, label), (True, f"{label}-means")):
            yield Sample("sample_sum", name, (x, *where, p, w, means))
            yield Sample("sample_sum", f"{name}-ones", (x, *where, p, None, means))
            yield Sample("sample_sum_grad", name, (x, *where, p, w, g, means, True))
            yield Sample("sample_sum_grad", f"{name}-ones", (x, *where, p, None, g, means, True))
        yield Sample("sample_sum_grad", f"{label}-still", (x, *where, p, w, g, False, False))
        weight, bias, g = normal(2, 4, 6), normal(6), normal(m, 6)
        # offsets about the sites of the rows, then masks, from a grid that moves no integer
        sites, grid = coords[:m].contiguous(), torch.tensor([[0, 0, 1], [-1, 1, 0]]).to(p.dtype)
        moves = between(torch.zeros(m, 4, dtype=torch.int32), 2).flatten(1)
        heads = torch.cat([moves, normal(m, 4).to(p.dtype)], 1)
        where = coords, blocks, sites
        yield Sample("deform_conv", label, (x, *where, heads, grid, weight, bias, 2, True, 1))
        yield Sample("deform_conv_grad", label, (x, *where, heads, grid, weight, g, 2, True, 1))
        yield Sample(
            "deform_conv", f"{label}-given", (x, *where, heads, grid, weight, None, 2, False, 1)
        )
        # linear maps that hardly move what their biases say
        wide = p.dtype
        to_weight = 0.02 * torch.randn(16, 3, generator=rng, dtype=torch.float64).to(wide)
        shift = between(torch.zeros(1, 4, dtype=torch.int32), 2).reshape(-1)
        to_bias = torch.cat([shift, torch.randn(4, generator=rng, dtype=torch.float64).to(wide)])
        query, g4 = normal(m, 3), normal(m, 4)
        maps = (x, *where, query, to_weight, to_bias, grid, 2)
        for name, kind in {
            "": (False, False),
            "-soft": (True, False),
            "-shared": (True, True),
        }.items():
            yield Sample("moved_sum", f"{label}{name}", (*maps, *kind))
            yield Sample("moved_sum_grad", f"{label}{name}", (*maps, *kind, g4))
        # offsets of the kernel's places behind those of what is read
        apart = torch.Generator().manual_seed(seed)
        turns = 0.1 + 0.8 * torch.rand(m, 12, generator=apart, dtype=torch.float64).to(wide)
        kernel = torch.randn(12, 4, generator=apart, dtype=torch.float64).to(dtype)
        both, start = torch.cat([moves, turns], 1), torch.tensor([[0, 0, 1], [-1, 1, 0]]).to(wide)
        given = (x, *where, both, grid, kernel, start, [2, 2, 3])
        yield Sample("moved_kernel", label, (*given, 2))
        yield Sample("moved_kernel_grad", label, (*given, 2, g4))
        moves, weight = moves[:, :6].contiguous(), normal(2, 2, 6)
        plain = (x, *where, moves, grid, weight)
        yield Sample("deform_conv", f"{label}-plain", (*plain, None, 1, False, 2))
        yield Sample("deform_conv_grad", f"{label}-plain", (*plain, g, 1, False, 2))
    for label in ("line", "empty"):
        in_rows, out_rows, segments, n, m = pairs_of(label, *CASES["dilated"][1:])
        book = shuffled(in_rows, out_rows, segments)
        scope, taps = [2, 1, 3], len(segments) - 1
        for groups in (1, 2):
            low = torch.randint(-1, 2, (m, taps, groups, 3), generator=rng)
            fraction = 0.1 + 0.8 * torch.rand(low.shape, generator=rng, dtype=torch.float64)
            places = (low + fraction).to(torch.promote_types(dtype, torch.float32))
            given = normal(n, 4), normal(6, 4), places, *book, scope
            yield Sample("deform_kernel", f"{label}-{groups}", given)
            yield Sample("deform_kernel_grad", f"{label}-{groups}", (*given, normal(m, 4)))

    yield from _attended(normal, dtype)


def _attended(normal: Callable[..., Tensor], dtype: torch.dtype) -> Iterator[Sample]:
    """Yield samples of attention, which is differentiable once too."""
    for label, queries, keys in (
        ("negative", [3, 0, 2], [4, 2, 1]),
        ("keys-absent", [2, 3], [0, 5]),
        ("empty", [0], [0]),
    ):
        ends = [torch.nn.functional.pad(torch.tensor(n).cumsum(0), (1, 0)) for n in (queries, keys)]
        q, k, v = (normal(sum(n), 2, w) for n, w in ((queries, 3), (keys, 3), (keys, 5)))
        yield Sample("ragged_attention", label, (q, k, v, *ends, 0.7))
        y = ragged_attention(q, k, v, *ends, 0.7)
        # of every query's logits; the gradient holds whatever they are
        log_sums = normal(*y.shape[:2]).to(torch.promote_types(dtype, torch.float32))
        given = (q, k, v, *ends, 0.7, y, log_sums, normal(*y.shape))
        yield Sample("ragged_attention_grad", label, given)
