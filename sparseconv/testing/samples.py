"""Sample arguments of the primitives, for sweeps that need no line per primitive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import torch
from torch import Tensor

from sparseconv.backends.reference.dim_conv import branch_shapes
from sparseconv.ops.coords import site_index, site_order
from sparseconv.ops.pyramid import pyramid
from sparseconv.ops.row_list import pairs_by_row
from sparseconv.testing import oracle
from sparseconv.testing.sample import CASES, Sample, pairs_of, shuffled
from sparseconv.testing.scenes import scene


def arithmetic(dtype: torch.dtype = torch.float64, seed: int = 0) -> Iterator[Sample]:
    """Yield samples of the primitives that have gradients."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    for label, (name, *geometry) in CASES.items():
        onto_itself = label == "submanifold"
        in_rows, out_rows, segments, n, m = pairs_of(name, *geometry, onto_itself=onto_itself)
        book = shuffled(in_rows, out_rows, segments)
        taps, pairs = len(segments) - 1, len(in_rows)
        kind = 1, onto_itself, False
        plain = (normal(n, 4), normal(taps, 4, 3), normal(3), *book, m, *kind, None)
        yield Sample("conv", label, plain)
        yield Sample(
            "conv_grad_weight", label, (normal(n, 4), normal(m, 3), *book, *kind, False, None)
        )
        of_norm = normal(3), normal(3)
        given = normal(n, 4), normal(taps, 4, 3), normal(3), *book, m, 1, onto_itself, None
        yield Sample("conv_norm", label, (*given, None, None, None, 1e-3, False))
        yield Sample("conv_norm", f"{label}-relu", (*given, *of_norm, None, 1e-3, True))
        end = *of_norm, normal(m, 3), 1e-3
        yield Sample("conv_norm", f"{label}-residual", (*given, *end, True))
        yield Sample("conv_norm", f"{label}-sum", (*given, *end, False))
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
        book = shuffled(in_rows, out_rows, segments)
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
        yield Sample("split_by_item", f"{name}-symmetric", (*shuffled(*book), items, size, True))


def _listed() -> Iterator[Sample]:
    """Yield samples of listing pairs by output row."""
    for label, (name, *geometry) in CASES.items():
        in_rows, out_rows, segments, _, m = pairs_of(name, *geometry)
        yield Sample("pairs_by_row", label, (in_rows, out_rows, segments, m))
        mixed = shuffled(in_rows, out_rows, segments)
        yield Sample("pairs_by_row", f"{label}-shuffled", (*mixed, m + 1))
        yield Sample("pairs_by_row", f"{label}-partly", (*mixed[:2], segments[:2], m))


def _of_normed(normal: Callable[..., Tensor]) -> Iterator[Sample]:
    """Yield samples of the gradients of a convolution and the norm behind it, in one op."""
    for label, (name, *geometry) in CASES.items():
        onto_itself = label == "submanifold"
        *book, n, m = pairs_of(name, *geometry, onto_itself=onto_itself)
        rows = normal(m, 6)
        mean, var, scale, shift = (
            normal(6).to(torch.promote_types(rows.dtype, torch.float32)) for _ in range(4)
        )
        of_norm = mean, var.square(), scale, shift, 1e-3
        for groups in (1, 2):
            swapped = normal(len(book[2]) - 1, 6 // groups, 4)
            given = normal(m, 6), normal(n, 4), swapped, *book, groups, onto_itself, None, rows
            kind = f"{label}-{groups}"
            plain = (*given, None, *of_norm[:2], None, None, 1e-3, False)
            yield Sample("conv_norm_grad", kind, (*plain, True, True))
            yield Sample("conv_norm_grad", f"{kind}-features", (*plain, True, False))
            clipped = (*given, None, *of_norm, True)
            yield Sample("conv_norm_grad", f"{kind}-relu", (*clipped, False, True))
            added = (*given, normal(m, 6).relu(), *of_norm, True)
            yield Sample("conv_norm_grad", f"{kind}-residual", (*added, True, True))


def inference(dtype: torch.dtype = torch.float64, seed: int = 0) -> Iterator[Sample]:
    """Yield samples of the primitives that are for inference and have no gradient."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    yield from (s for s in _octaves(normal) if s.op == "octave_conv_grad")
    yield from _of_normed(normal)
    for label, (name, *geometry) in CASES.items():
        *book, n, m = pairs_of(name, *geometry)
        x, w = normal(n, 4), normal(len(book[2]) - 1, 2, 6)
        residual = normal(m, 6)
        wide = torch.promote_types(dtype, torch.float32)
        norm = normal(6).to(wide), normal(6).to(wide).square(), normal(6).to(wide), None, 1e-5
        end, none = (*book, m, 2, None), (None, None, None, None, 0.0)
        yield Sample("conv_fused", label, (x, w, normal(6), *none, residual, True, *end))
        yield Sample("conv_fused", f"{label}-plain", (x, w, None, *none, None, False, *end))
        yield Sample("conv_fused", f"{label}-norm", (x, w, normal(6), *norm, residual, True, *end))
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
        yield Sample("pyramid", name, (coords, order, False))
        table = site_index(coords)
        yield Sample("lookup", name, (coords, table, torch.cat([coords.flip(0), coords[:3]]) - 1))
        bounded = (offsets, [2, 2, 2], [0, 0, 0], [3, 3, 3])
        yield Sample("output_coords", name, (coords, *bounded, False))
        yield Sample("output_coords", f"{name}-up", (coords, offsets, [2, 2, 2], [], [], True))
        if name != "duplicates":
            yield Sample("rulebook", name, (coords, table, coords, offsets, [1, 1, 1], True))
            yield Sample("pyramid", f"{name}-neighbours", (coords, order, True))
            levels, _ = pyramid(coords, order, False)
            yield Sample("cube_rulebook", name, (coords, levels, 0))
            yield Sample("halve", name, (coords, levels, 0, False))
            yield Sample("halve", f"{name}-neighbours", (coords, levels, 0, True))
            halves = torch.cat(
                [coords[:, :1], torch.div(coords[:, 1:], 2, rounding_mode="floor")], 1
            )
            yield Sample(
                "rulebook", f"{name}-half", (coords, table, halves, offsets, [2] * 3, False)
            )
