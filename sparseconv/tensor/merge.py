"""The topologies of several scans as that of their batch, with what is built already."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from sparseconv.geometry import Triple
from sparseconv.ops.merge import join_rows
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.topology import ROOT, Level, Topology


def merge(
    parts: Sequence[tuple[Topology, str]], shape: Triple | None, sizes: Sequence[int]
) -> Topology:
    """Return the topology of a batch; what all its parts have built is joined, not built again.

    Rows of the parts follow one another, so the pairs of a tap are those of the parts in turn, rows
    counted on: what building on the joined coordinates gives.

    Args:
        parts: topologies, and in each the level that becomes the root.
        shape: extent of the batch's root lattice in voxels, or None.
        sizes: scans of each part.

    Returns:
        The root; where `shape` is that of every part, the levels made from it that every part has;
        the rulebooks between these that every part has. Parts without sites have all of them.
    """
    roots = [topology.levels[base] for topology, base in parts]
    starts = [0, *accumulate(sizes)]
    filled = [n for n, root in enumerate(roots) if root.coords.shape[0]] or [0]
    held = [_below(*parts[n]) for n in filled]
    # a crop at another extent gives other sites
    same = all(root.spatial_shape == shape for root in roots)
    merged = Topology()
    rows: dict[str, list[int]] = {}
    for name, level in held[0][0].items():
        if name != ROOT and not (same and all(name in levels for levels, _, _ in held)):
            continue
        coords = [levels[name].coords for levels, _, _ in held]
        rows[name] = [0, *accumulate(len(c) for c in coords)]
        joined = _counted_on(coords, [starts[n] for n in filled])
        extent = shape if name == ROOT else level.spatial_shape
        merged.levels[name] = Level(joined, level.stride, extent, starts[-1])
    for name, (source, geometry) in held[0][2].items():
        if name in merged.levels and source in merged.levels:
            merged.origins[name] = (source, geometry)
    for key, (source, target, book) in held[0][1].items():
        if source in rows and target in rows and all(key in books for _, books, _ in held):
            books = [book, *(each[key][2] for _, each, _ in held[1:])]
            merged.rulebooks[key] = _joined(books, rows[source], rows[target])
    return merged


def _below(topology: Topology, base: str) -> tuple[dict, dict, dict]:
    """Return levels, rulebooks and origins from a level on, named as if that were the root."""
    names = {
        name: ROOT + name[len(base) :]
        for name in topology.levels
        if name == base or (name.startswith(base) and name[len(base)] in "/^")
    }
    levels = {new: topology.levels[old] for old, new in names.items()}
    books = {}
    for key, book in topology.rulebooks.items():
        ends, geometry = key.split(":")
        source, target = ends.split(">")
        if source in names and target in names:
            source, target = names[source], names[target]
            books[f"{source}>{target}:{geometry}"] = (source, target, book)
    origins = {
        names[name]: (names[source], geometry)
        for name, (source, geometry) in topology.origins.items()
        if name in names and source in names
    }
    return levels, books, origins


def _counted_on(coords: Sequence[Tensor], starts: Sequence[int]) -> Tensor:
    """Join coordinates, the batch columns moved by `starts`."""
    joined = torch.cat(list(coords))
    parts = joined[:, 0].split([len(part) for part in coords])
    for part, start in zip(parts, starts, strict=True):
        part += start
    return joined


def _joined(books: Sequence[Rulebook], in_starts: list[int], out_starts: list[int]) -> Rulebook:
    segments = torch.stack([book.segments for book in books])
    return Rulebook(
        join_rows(segments, [book.in_rows for book in books], in_starts[:-1]),
        join_rows(segments, [book.out_rows for book in books], out_starts[:-1]),
        segments.sum(0),
        all(book.symmetric for book in books),
    )
