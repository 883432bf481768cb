"""Sample arguments of every primitive, for sweeps that need no line per primitive.

The pairs come from the oracle, not from the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from sparseconv.backends.reference.dim_conv import branch_shapes
from sparseconv.ops.attention import ragged_attention
from sparseconv.ops.blocks import block_index
from sparseconv.ops.coords import pyramid, site_index, site_order
from sparseconv.ops.row_list import pairs_by_row
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


def _shuffled(in_rows: Tensor, out_rows: Tensor, segments: Tensor, seed: int = 0):
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


def arithmetic(dtype: torch.dtype = torch.float64, seed: int = 0) -> Iterator[Sample]:
    """Yield samples of the primitives that have gradients."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    for label, (name, *geometry) in CASES.items():
        onto_itself = label == "submanifold"
        in_rows, out_rows, segments, n, m = pairs_of(name, *geometry, onto_itself=onto_itself)
        book = _shuffled(in_rows, out_rows, segments)
        taps, pairs = len(segments) - 1, len(in_rows)
        kind = 1, onto_itself, False
        plain = (normal(n, 4), normal(taps, 4, 3), normal(3), *book, m, *kind, None)
        yield Sample("conv", label, plain)
        yield Sample(
            "conv_grad_weight", label, (normal(n, 4), normal(m, 3), *book, *kind, False, None)
        )
        # mirrored taps occur in gradients
        kind = 2, onto_itself, onto_itself
        grouped = (normal(n, 4), normal(taps, 2, 6), None, *book, m, *kind, None)
        yield Sample("conv", f"{label}-groups", grouped)
        outer = (normal(n, 4), normal(m, 6), *book, *kind, True, None)
        yield Sample("conv_grad_weight", f"{label}-groups", outer)
        kind, by_row = (3, onto_itself, onto_itself), pairs_by_row(*book, m)
        alone = (normal(n, 3), normal(taps, 1, 3), normal(3), *book, m, *kind, by_row)
        yield Sample("conv", f"{label}-depthwise", alone)
        products = (normal(n, 3), normal(m, 3), *book, *kind, False, by_row)
        yield Sample("conv_grad_weight", f"{label}-depthwise", products)
        yield Sample("aggregate", label, (normal(n, 3), *book[:2], None, m))
        yield Sample("aggregate", f"{label}-weights", (normal(n, 3), *book[:2], normal(pairs), m))
        yield Sample("pair_dot", label, (normal(n, 3), normal(m, 3), *book[:2]))
        for groups in (1, 2, 4):
            kind = label if groups == 2 else f"{label}-groups{groups}"
            own = normal(m, taps, groups)
            yield Sample("tap_sum", kind, (normal(n, 4), own, *book, m, False))
            yield Sample("tap_sum", f"{kind}-transposed", (normal(m, 4), own, *book, n, True))
            yield Sample("tap_dot", kind, (normal(n, 4), normal(m, 4), *book, groups))
        wide = torch.promote_types(dtype, torch.float32)
        for likeness in range(3):
            related = (normal(v, 2).to(wide) for v in (m, n, taps))
            given = (normal(n, 4), *related, *book, likeness)
            yield Sample("relation_mean", f"{label}-{likeness}" if likeness else label, given)
        ends = torch.tensor([0, n // 2, n // 2, n])
        yield Sample("running_sums", label, (normal(n, 3), ends, False))
        yield Sample("running_sums", f"{label}-reverse", (normal(n, 3), ends, True))
        # values far apart, so that a finite difference changes no winner
        apart = torch.randperm(n * 3, generator=rng).to(dtype).reshape(n, 3)
        yield Sample("pool_max", label, (apart, *book[:2], m))
        winner = torch.randint(-1, n, (m, 3), generator=rng, dtype=torch.int32)
        yield Sample("pool_max_grad", label, (normal(m, 3), winner, n))
        x, other, y = normal(n, 3), normal(n, 3), normal(n, 3)
        mean, spread, weight, bias = normal(3), 0.5 + normal(3).square(), normal(3), normal(3)
        given = (mean, spread, weight, bias)
        eps = 1e-3
        yield Sample("batch_norm", label, (x, None, None, None, eps, False))
        yield Sample("batch_norm", f"{label}-relu", (x, weight, bias, None, eps, True))
        yield Sample("batch_norm", f"{label}-residual", (x, weight, bias, other, eps, True))
        yield Sample("norm_apply", label, (x, mean, spread, None, None, None, eps, False))
        yield Sample("norm_apply", f"{label}-relu", (x, *given, None, eps, True))
        yield Sample("norm_apply", f"{label}-residual", (x, *given, other, eps, True))
        yield Sample("norm_apply", f"{label}-sum", (x, *given, other, eps, False))
        yield Sample(
            "norm_grad", label, (other, x, None, mean, spread, None, None, eps, False, True)
        )
        yield Sample("norm_grad", f"{label}-relu", (other, x, None, *given, eps, True, True))
        yield Sample("norm_grad", f"{label}-residual", (other, x, y, *given, eps, True, True))
        yield Sample("norm_grad", f"{label}-given", (other, x, y, *given, eps, True, False))

    yield from _by_plane(normal, rng)
    yield from (s for s in _octaves(normal) if s.op == "octave_conv")


def _by_plane(normal: Callable[..., Tensor], rng: torch.Generator) -> Iterator[Sample]:
    """Yield samples of dimension-wise convolution: few taps, for the branches multiply them."""
    for label, (name, *geometry), axes, shifts in (
        ("submanifold", ("line", (1, 3, 1), 1, (0, 1, 0)), [0, 1, 2], [-1, 1]),
        ("dilated", CASES["dilated"], [3], [2]),
        ("strided", CASES["strided"], [2, 0], [1, -3]),
        ("empty", CASES["empty"], [0, 1, 2, 3], [-1, 0, 1]),
    ):
        onto_itself = label == "submanifold"
        in_rows, out_rows, segments, n, m = pairs_of(name, *geometry, onto_itself=onto_itself)
        book = _shuffled(in_rows, out_rows, segments)
        size, planes = list(oracle.Spec.of(*geometry).kernel), [2, 3, 1]
        sites = [torch.randint(limit, (m,), generator=rng) for limit in (1, *planes)]
        where, kind = (torch.stack(sites, 1).int(), *book), (size, planes, shifts, axes)
        w = normal(sum(map(prod, branch_shapes(3, *kind))))
        x, g, kind = normal(n, 3), normal(m, 3 * len(axes)), (*kind, onto_itself)
        yield Sample("dim_conv", label, (x, w, None, None, *where, *kind))
        yield Sample("dim_conv_grad", label, (x, g, w, None, *where, *kind))
        yield Sample("dim_conv_grad_weight", label, (x, g, None, *where, *kind))
        join, bias, g = normal(len(axes), 3), normal(3), normal(m, 3)
        yield Sample("dim_conv", f"{label}-joined", (x, w, join, bias, *where, *kind))
        yield Sample("dim_conv_grad", f"{label}-joined", (x, g, w, join, *where, *kind))
        yield Sample("dim_conv_grad_weight", f"{label}-joined", (x, g, join, *where, *kind))


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
        yield Sample("sample_sum", label, (x, *where, p, w))
        yield Sample("sample_sum", f"{label}-ones", (x, *where, p, None))
        yield Sample("sample_sum_grad", label, (x, *where, p, w, g))
        yield Sample("sample_sum_grad", f"{label}-ones", (x, *where, p, None, g))
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
        book = _shuffled(in_rows, out_rows, segments)
        scope, taps = [2, 1, 3], len(segments) - 1
        for groups in (1, 2):
            low = torch.randint(-1, 2, (m, taps, groups, 3), generator=rng)
            fraction = 0.1 + 0.8 * torch.rand(low.shape, generator=rng, dtype=torch.float64)
            places = (low + fraction).to(torch.promote_types(dtype, torch.float32))
            given = normal(n, 4), normal(6, 4), places, *book, scope
            yield Sample("deform_kernel", f"{label}-{groups}", given)
            yield Sample("deform_kernel_grad", f"{label}-{groups}", (*given, normal(m, 4)))

    yield from _attended(normal, dtype)


def _octaves(normal: Callable[..., Tensor]) -> Iterator[Sample]:
    """Yield samples of two resolutions that exchange, and of their gradients."""
    for label, name in (("submanifold", "line"), ("empty", "empty")):
        *book, n, _ = pairs_of(name, (1, 1, 3), 1, (0, 0, 1), onto_itself=True)
        above = [(b, *(v // 2 for v in xyz)) for b, *xyz in oracle.sites_of(scene(name).coords)]
        sites = sorted(set(above))
        parents = torch.tensor([sites.index(p) for p in above], dtype=torch.int32)
        counts = torch.tensor([above.count(p) for p in sites], dtype=torch.int64)
        found = oracle.triples(sites, sites, oracle.Spec.of((1, 1, 3), 1, (0, 0, 1)))
        below, m = oracle.by_tap(found, 3), len(sites)
        rows, ends = torch.arange(n, dtype=torch.int32), torch.tensor([0, n])
        children = pairs_by_row(rows, parents, ends, m)
        weights = [normal(3, *shape) for shape in ((3, 2), (3, 4), (2, 2), (2, 4))]
        bias = normal(6)
        for kind, x, low, given, of, adjoint in (
            ("", normal(n, 5), None, bias, children, False),
            ("-low", normal(n, 3), normal(m, 2), bias, None, False),
            ("-adjoint", normal(n, 5), None, None, None, True),
            ("-low-adjoint", normal(n, 3), normal(m, 2), bias, children, True),
        ):
            where = *book, *below, of, parents, counts, adjoint
            yield Sample("octave_conv", label + kind, (x, low, *weights, given, *where))
            grad = (
                normal(n, 6) if low is None else normal(n, 2),
                None if low is None else normal(m, 4),
            )
            saved = x, *weights, normal(m, 5)
            for needs in ((True, True, True), (False, True, False), (True, False, True)):
                every = f"{label}{kind}-{''.join(str(int(need)) for need in needs)}"
                yield Sample("octave_conv_grad", every, (*grad, *saved, *where, *needs))


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


def _joined() -> Iterator[Sample]:
    """Yield samples of joining the rulebooks of several scans."""
    for label, counts in {
        "one": [[2, 0, 3]],
        "three": [[2, 0, 3], [0, 0, 0], [1, 4, 0]],
        "empty": [[0, 0, 0], [0, 0, 0]],
    }.items():
        ends = torch.nn.functional.pad(torch.tensor(counts).cumsum(1), (1, 0))
        rows = [torch.arange(sum(each), dtype=torch.int32) % 3 for each in counts]
        yield Sample("join_rows", label, (ends, rows, [5 * n for n in range(len(rows))]))


def _by_item() -> Iterator[Sample]:
    """Yield samples of sorting rows by batch item and of splitting rulebooks by it."""
    for name in ("random_sparse", "empty_batch_item", "empty"):
        view = scene(name)
        items, size = view.coords[:, 0].contiguous(), view.batch_size
        yield Sample("item_order", name, (items, size))
        book = pairs_of(name, 3, 1, 1, onto_itself=True)[:3]
        yield Sample("split_by_item", name, (*book, items, size, False))
        yield Sample("split_by_item", f"{name}-symmetric", (*_shuffled(*book), items, size, True))


def _listed() -> Iterator[Sample]:
    """Yield samples of listing pairs by output row."""
    for label, (name, *geometry) in CASES.items():
        in_rows, out_rows, segments, _, m = pairs_of(name, *geometry)
        yield Sample("pairs_by_row", label, (in_rows, out_rows, segments, m))
        mixed = _shuffled(in_rows, out_rows, segments)
        yield Sample("pairs_by_row", f"{label}-shuffled", (*mixed, m + 1))
        yield Sample("pairs_by_row", f"{label}-partly", (*mixed[:2], segments[:2], m))


def inference(dtype: torch.dtype = torch.float64, seed: int = 0) -> Iterator[Sample]:
    """Yield samples of the primitives that are for inference and have no gradient."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    yield from (s for s in _octaves(normal) if s.op == "octave_conv_grad")
    for label, (name, *geometry) in CASES.items():
        *book, n, m = pairs_of(name, *geometry)
        x, w = normal(n, 4), normal(len(book[2]) - 1, 2, 6)
        residual = normal(m, 6)
        yield Sample("conv_fused", label, (x, w, normal(6), residual, True, *book, m, 2, None))
        yield Sample("conv_fused", f"{label}-plain", (x, w, None, None, False, *book, m, 2, None))
        wide = torch.promote_types(dtype, torch.float32)
        q, k, prior = (normal(v, 2).to(wide) for v in (m, n, len(book[2]) - 1))
        for likeness in range(3):
            kind = *book, likeness
            log_total = torch.ops.sparseconv.relation_mean(x, q, k, prior, *kind)[1]
            given = (normal(m, 4), x, q, k, prior, log_total, *kind)
            yield Sample("relation_mean_grad", f"{label}-{likeness}", given)


def placement() -> Iterator[Sample]:
    """Yield samples of the primitives on integers: index, look-up, output sites, rulebook."""
    yield from _joined()
    yield from _by_item()
    yield from _listed()
    spec = oracle.Spec.of(3, 2, 1)
    offsets = [v for tap in spec.taps for v in spec.reads((0, 0, 0, 0), tap)[1:]]
    for name in ("random_sparse", "negative", "empty", "duplicates"):
        coords = scene(name).coords
        yield Sample("site_index", name, (coords,))
        yield Sample("block_index", name, (coords,))
        yield Sample("unique_coords", name, (coords,))
        yield Sample("site_order", name, (coords,))
        order = site_order(coords)
        yield Sample("pyramid", name, (coords, order))
        table = site_index(coords)
        yield Sample("lookup", name, (coords, table, torch.cat([coords.flip(0), coords[:3]]) - 1))
        bounded = (offsets, [2, 2, 2], [0, 0, 0], [3, 3, 3])
        yield Sample("output_coords", name, (coords, *bounded, False))
        yield Sample("output_coords", f"{name}-up", (coords, offsets, [2, 2, 2], [], [], True))
        if name != "duplicates":
            yield Sample("rulebook", name, (coords, table, coords, offsets, [1, 1, 1], True))
            yield Sample("cube_rulebook", name, (coords, pyramid(coords, order), 0))
            yield Sample("halve", name, (coords, pyramid(coords, order), 0))
            halves = torch.cat(
                [coords[:, :1], torch.div(coords[:, 1:], 2, rounding_mode="floor")], 1
            )
            yield Sample(
                "rulebook", f"{name}-half", (coords, table, halves, offsets, [2] * 3, False)
            )
