"""Everything about where: the site sets of one batch of scans, their indices and rulebooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import mul

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.geometry import Geometry, Offsets, Triple, mirrored
from sparseconv.ops.blocks import block_index
from sparseconv.ops.coords import output_coords, site_index
from sparseconv.ops.items import item_order, split_by_item
from sparseconv.ops.pyramid import cube_rulebook, halve, pyramid
from sparseconv.ops.rulebook import rulebook
from sparseconv.tensor.items import Items
from sparseconv.tensor.rulebook import Rulebook, keepable

ROOT = "sites"
CUBE = Geometry.submanifold(3)
CORNERS = Geometry.make(2, 2)


@dataclass(frozen=True, eq=False)
class Level:
    """One set of active sites.

    Attributes:
        coords: int32 [N, 4]: batch, x, y, z in voxels of this level's own lattice.
        stride: voxels of the finest lattice per voxel of this one, along x, y, z.
        spatial_shape: extent of the lattice in voxels, or None where unbounded.
        batch_size: scans in the batch, empty ones included.
    """

    coords: Tensor  # [N, 4] int32
    stride: Triple
    spatial_shape: Triple | None
    batch_size: int


class Topology:
    """The levels of one batch of scans, with their site indices and rulebooks.

    It only grows: a level, an index or a rulebook is built when first asked for and then kept, so
    layers of one geometry share it. Levels are named by how they were made, so that two strided
    layers of one geometry arrive at the same sites. Nothing here points back at a tensor that
    uses it; memory is freed with the last tensor of the batch.

    Memory: 16 bytes a site, at most 32 for its index, 4 a site and 60 a block for its block index,
    as much again and 16 a site where it is sampled between sites, 8 a pair of each rulebook, as
    much again and 8 a site where depthwise layers use it; and where 3³ submanifold rulebooks or
    levels of half the resolution were asked for, what `pyramid` takes.
    """

    def __init__(self) -> None:
        self.levels: dict[str, Level] = {}
        self.tables: dict[str, Tensor] = {}
        self.block_indices: dict[str, Tensor] = {}
        self.centres: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        # of a level whose sites were sorted already; used up by its pyramid
        self.orders: dict[str, Tensor] = {}
        self.pyramids: dict[str, Tensor] = {}
        # level: the level whose pyramid holds it, and how many halvings lie between
        self.halvings: dict[str, tuple[str, int]] = {}
        self.rulebooks: dict[str, Rulebook] = {}
        self.rows_by_item: dict[str, Items] = {}
        # of layers whose weights differ from scan to scan; under the names of `rulebooks`
        self.split_rulebooks: dict[str, Rulebook] = {}
        self.origins: dict[str, tuple[str, Geometry]] = {}

    @classmethod
    def of(cls, level: Level) -> Topology:
        """Return a topology whose root is `level`."""
        topology = cls()
        topology.levels[ROOT] = level
        return topology

    def table(self, name: str) -> Tensor:
        """Return the site index of a level, built when first asked for."""
        if name not in self.tables:
            with keepable():
                self.tables[name] = site_index(self.levels[name].coords)
        return self.tables[name]

    def blocks(self, name: str) -> Tensor:
        """Return the block index of a level, built when first asked for."""
        if name not in self.block_indices:
            with keepable():
                self.block_indices[name] = block_index(self.levels[name].coords)
        return self.block_indices[name]

    def centred(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sites of a level as seen from their middle, built when first asked for.

        Positions between sites are floats: far from 0, as in maps of a national grid, float32 has
        no digits left for a fraction of a voxel.

        Returns:
            Coordinates int32 [N, 4] less the middle, their block index, and the middle int64 [3],
            a site about half-way between the ends of each axis.
        """
        if name not in self.centres:
            with keepable():
                coords = self.levels[name].coords
                middle = _middle(coords[:, 1:])
                xyz = (coords[:, 1:] - middle).to(torch.int32)
                moved = torch.cat([coords[:, :1], xyz], 1)
                self.centres[name] = moved, block_index(moved), middle
        return self.centres[name]

    def rulebook(self, source: str, target: str, geometry: Geometry | Offsets) -> Rulebook:
        """Return the rulebook from one level to another, built when first asked for.

        Args:
            source: name of the level that is read.
            target: name of the level that is written.
            geometry: of the kernel, or a list of offsets.

        Returns:
            Pairs (i, o) of tap t with `source[i].xyz == target[o].xyz * stride + offset[t]`.
        """
        key = f"{source}>{target}:{geometry.key}"
        if key in self.rulebooks:
            return self.rulebooks[key]
        if source == target and geometry.offsets == CUBE.offsets and geometry.stride == CUBE.stride:
            self.rulebooks[key] = Rulebook(*self._neighbours(source), symmetric=True)
        else:
            self.rulebooks[key] = self.pairs(
                source,
                self.levels[target].coords,
                geometry.offsets,
                geometry.stride,
                same_sites=source == target,
            )
        return self.rulebooks[key]

    def items(self, name: str) -> Items:
        """Return the rows of a level by batch item, sorted when first asked for."""
        if name not in self.rows_by_item:
            level = self.levels[name]
            with keepable():
                of_row = level.coords[:, 0].contiguous()
                made = item_order(of_row, max(level.batch_size, 1))
            self.rows_by_item[name] = Items(of_row, *made)
        return self.rows_by_item[name]

    def split_rulebook(self, source: str, target: str, geometry: Geometry) -> Rulebook:
        """Return a rulebook whose taps are split by batch item; see `split_by_item`."""
        key = f"{source}>{target}:{geometry.key}"
        if key not in self.split_rulebooks:
            self.split_rulebooks[key] = self.split(self.rulebook(source, target, geometry), target)
        return self.split_rulebooks[key]

    def split(self, book: Rulebook, target: str) -> Rulebook:
        """Split the taps of a rulebook onto a level by batch item, without keeping the result."""
        with keepable():
            made = split_by_item(
                book.in_rows,
                book.out_rows,
                book.segments,
                self.items(target).of_row,
                max(self.levels[target].batch_size, 1),
                symmetric=book.symmetric,
            )
        return Rulebook(*made, symmetric=book.symmetric)

    def pyramid(self, name: str) -> tuple[Tensor, int]:
        """Return a pyramid that holds a level, built when first asked for, and how far up."""
        base, depth = self.halvings.get(name, (name, 0))
        if base not in self.pyramids:
            self._build_pyramid(base, neighbours=False)
        return self.pyramids[base], depth

    def _build_pyramid(self, base: str, neighbours: bool) -> list[Tensor]:
        coords = self.levels[base].coords
        none = torch.zeros(0, dtype=torch.int64, device=coords.device)
        with keepable():
            made, book = pyramid(coords, self.orders.pop(base, none), neighbours)
        self.pyramids[base] = made
        return book

    def _neighbours(self, name: str) -> Sequence[Tensor]:
        if name not in self.halvings and name not in self.pyramids:
            return self._build_pyramid(name, neighbours=True)
        levels, depth = self.pyramid(name)
        with keepable():
            return cube_rulebook(self.levels[name].coords, levels, depth)

    def pairs(
        self,
        source: str,
        out_coords: Tensor,  # [M, 4] int32
        offsets: Sequence[int],
        stride: Sequence[int],
        *,
        same_sites: bool = False,
    ) -> Rulebook:
        """Build a rulebook that is not kept: arbitrary sites, arbitrary offsets (3K ints)."""
        coords = self.levels[source].coords
        # rulebooks are merged from sorted sites; an index that is there already may be asked
        none = torch.zeros(0, dtype=torch.int64, device=coords.device)
        table = self.tables.get(source, none)
        with keepable():
            made = rulebook(coords, table, out_coords, list(offsets), list(stride), same_sites)
        return Rulebook(*made, symmetric=same_sites and mirrored(offsets) and set(stride) == {1})

    def down(self, source: str, geometry: Geometry) -> str:
        """Return the name of the level a convolution of `geometry` gives, made when first asked.

        Its sites are all those whose kernel meets an active site; a bounded lattice is cropped to
        torch's output shape. A level of half the resolution below one whose neighbours were asked
        for, by a 3³ submanifold layer, gets that rulebook in the same go.
        """
        name = f"{source}/{geometry.key}"
        if name not in self.levels:
            level = self.levels[source]
            shape = level.spatial_shape
            bound = None if shape is None else geometry.output_shape(shape)
            stride = tuple(map(mul, level.stride, geometry.stride))
            whole = shape is None or all(s == 2 * b for s, b in zip(shape, bound, strict=True))
            if whole and geometry.offsets == CORNERS.offsets and geometry.stride == CORNERS.stride:
                levels, depth = self.pyramid(source)
                neighbours = f"{source}>{source}:{CUBE.key}" in self.rulebooks
                with keepable():
                    coords, *book, cube = halve(level.coords, levels, depth, neighbours)
                self.rulebooks[f"{source}>{name}:{geometry.key}"] = Rulebook(*book)
                if neighbours:
                    key = f"{name}>{name}:{CUBE.key}"
                    self.rulebooks[key] = Rulebook(*cube, symmetric=True)
                self.halvings[name] = (self.halvings.get(source, (source, 0))[0], depth + 1)
            else:
                coords = _reached(level.coords, geometry, bound, transposed=False)
            self.levels[name] = Level(coords, stride, bound, level.batch_size)
            self.origins[name] = (source, geometry)
        return name

    def up(self, source: str, geometry: Geometry, output_padding: Triple = (0, 0, 0)) -> str:
        """Return the name of the level a transposed convolution gives, made when first asked.

        Its sites are all those reached by a tap of an active site; a bounded lattice is cropped
        to torch's output shape. Below the lattice the net began with, the stride stays 1.

        Raises:
            ValueError: a stride of the level is above 1 and not divisible by that of `geometry`.
        """
        padding = ".".join(map(str, output_padding))
        name = f"{source}^{geometry.key}o{padding}"
        if name not in self.levels:
            level = self.levels[source]
            shape = level.spatial_shape
            bound = None if shape is None else geometry.transposed_shape(shape, output_padding)
            coords = _reached(level.coords, geometry, bound, transposed=True)
            stride = _finer(level.stride, geometry.stride)
            self.levels[name] = Level(coords, stride, bound, level.batch_size)
        return name

    def origin(self, name: str) -> tuple[str, Geometry]:
        """Return the level and geometry a strided convolution made level `name` from.

        Raises:
            ValueError: the level was not made by a convolution.
        """
        if name not in self.origins:
            raise ValueError(
                complain(
                    "x",
                    "sites made by a strided convolution or pooling, whose rulebook can be "
                    "read backwards",
                    f"sites of the level {name!r}",
                    "apply SparseConvTranspose3d, which makes its own output sites, or pass sites=",
                )
            )
        return self.origins[name]

    def apply(self, change: Callable[[Tensor], Tensor]) -> Topology:
        """Return a topology of changed tensors, such as moved ones; nothing is built again."""
        moved = Topology()
        moved.levels = {
            name: replace(level, coords=change(level.coords)) for name, level in self.levels.items()
        }
        moved.tables = {name: change(table) for name, table in self.tables.items()}
        moved.block_indices = {name: change(index) for name, index in self.block_indices.items()}
        moved.centres = {
            name: tuple(change(part) for part in parts) for name, parts in self.centres.items()
        }
        moved.rulebooks = {name: book.apply(change) for name, book in self.rulebooks.items()}
        moved.origins = dict(self.origins)
        return moved

    def __getstate__(self) -> dict:
        # these belong to the backend that built them, or are quickly built again
        mine = ("tables", "block_indices", "centres", "orders", "pyramids", "halvings")
        mine += ("rows_by_item", "split_rulebooks")
        return {**self.__dict__, **{name: {} for name in mine}}


def _middle(
    xyz: Tensor,  # [N, 3] int32
) -> Tensor:  # [3] int64
    """Return a site from which all are within int32, on a corner of a block of 4 where it can."""
    ends = torch.iinfo(torch.int32)
    first = torch.cat([xyz, xyz.new_full((1, 3), ends.max)]).amin(0).to(torch.int64)
    last = torch.cat([xyz, xyz.new_full((1, 3), ends.min)]).amax(0).to(torch.int64)
    return torch.maximum((first + last >> 3) << 2, last - ends.max)


def _reached(coords: Tensor, geometry: Geometry, bound: Triple | None, transposed: bool) -> Tensor:
    lower, upper = ([], []) if bound is None else ([0, 0, 0], list(bound))
    offsets, stride = list(geometry.offsets), list(geometry.stride)
    with keepable():
        return output_coords(coords, offsets, stride, lower, upper, transposed)


def _finer(stride: Triple, step: Triple) -> Triple:
    if any(a > 1 and a % b for a, b in zip(stride, step, strict=True)):
        raise ValueError(
            complain("stride", f"a divisor of the tensor's stride {stride}", f"{step}")
        )
    x, y, z = (max(a // b, 1) for a, b in zip(stride, step, strict=True))
    return x, y, z
