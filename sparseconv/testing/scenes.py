"""Named scenes, each with the reason it is kept: what it has caught or would catch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.tensor.sparse_tensor import SparseTensor

LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Scene:
    """Sites of one batch of scans.

    Attributes:
        name: how to ask for it.
        reason: what it is kept for.
        coords: int32 [N, 4].
        batch_size: scans, empty ones included.
        spatial_shape: extent in voxels, or None where unbounded.
        unique: whether every site occurs once.
    """

    name: str
    reason: str
    coords: Tensor  # [N, 4] int32
    batch_size: int
    spatial_shape: tuple[int, int, int] | None = None
    unique: bool = True

    def features(self, channels: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
        """Return normal features [N, channels], the same for the same seed."""
        rng = torch.Generator().manual_seed(seed)
        x = torch.randn(self.coords.shape[0], channels, dtype=torch.float64, generator=rng)
        return x.to(dtype)

    def tensor(self, channels: int, dtype: torch.dtype = torch.float64) -> SparseTensor:
        """Return a sparse tensor of this scene with those features."""
        features = self.features(channels, dtype)
        return SparseTensor(self.coords, features, self.spatial_shape, self.batch_size)


Rows = list[tuple[int, int, int, int]]
_MAKERS: dict[str, Callable[[], tuple]] = {}


def _scene(maker: Callable[[], tuple]) -> Callable[[], tuple]:
    """Register a maker under its name; its docstring is the reason it is kept."""
    _MAKERS[maker.__name__] = maker
    return maker


def _grid(*extent: int) -> Rows:
    return list(product(*(range(n) for n in extent)))


def _random(count: int, extent: int, batch: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.unique(rng.integers(0, [batch, extent, extent, extent], (count, 4)), axis=0)
    return rng.permutation(rows)


@_scene
def empty():
    """No site at all: sizes of 0 crash allocators, reductions and divisions."""
    return [], 1


@_scene
def one_voxel():
    """One site: only the centre tap exists, the least that is not nothing."""
    return [(0, 3, 2, 1)], 1, (5, 5, 5)


@_scene
def empty_batch_item():
    """The middle scan of three is empty: means over nothing, offsets by scan."""
    return [(0, 0, 0, 0), (0, 1, 0, 0), (2, 0, 0, 1), (2, 3, 3, 3)], 3, (4, 4, 4)


@_scene
def empty_last_item():
    """The last scan is empty: a batch size guessed from coordinates is wrong."""
    return [(0, 0, 1, 2), (0, 1, 1, 2), (0, 2, 2, 2)], 2, (4, 4, 4)


@_scene
def line():
    """A line along z: one axis alone has neighbours, so exchanged axes show."""
    return [(0, 2, 1, z) for z in range(9)], 1, (4, 3, 9)


@_scene
def plane():
    """A plane: the usual scan, flat, with a third of the taps."""
    return [(0, x, y, 3) for x in range(6) for y in range(5)], 1, (6, 5, 7)


@_scene
def full_cube():
    """Every cell active: equals dense convolution cell by cell."""
    return _grid(2, 4, 3, 5), 2, (4, 3, 5)


@_scene
def negative():
    """Coordinates below zero: division and packing must round towards minus infinity."""
    rows = _random(60, 6, 2, 1)
    rows[:, 1:] -= [7, 3, 5]
    return rows, 2


@_scene
def int32_limits():
    """Both ends of int32: sums in 32 bits and packed keys wrap around."""
    low, high = -LIMIT - 1, LIMIT
    ends = [
        (0, x, y, z) for x, y, z in product((low, low + 1, high - 1, high), (0, high), (low, 0))
    ]
    return [*ends, (0, 0, 0, 0), (1, high, high, high), (1, low, low, low)], 2


@_scene
def far_away():
    """Coordinates of 100 million, as maps in a national grid have."""
    rows = _random(40, 4, 1, 2)
    rows[:, 1:] += [100_000_000, -100_000_000, 50_000_000]
    return rows, 1


@_scene
def duplicates():
    """Sites that occur again: accepted in silence they are summed, lost or doubled."""
    rows = _random(30, 3, 2, 3)
    return np.concatenate([rows, rows[::3], rows[:1]]), 2, (3, 3, 3)


@_scene
def same_xyz():
    """Two scans with the same xyz: a key without the batch item mixes them."""
    rows = _random(30, 4, 1, 4)
    return np.concatenate([rows, np.add(rows, [1, 0, 0, 0])]), 2, (4, 4, 4)


@_scene
def random_sparse():
    """Random sites at a tenth of the cells, rows in no order, scans interleaved."""
    return _random(150, 8, 3, 5), 3, (8, 8, 8)


@_scene
def backwards():
    """Random sites in rows sorted backwards: nothing may rely on sorted rows."""
    rows = _random(80, 6, 2, 6)
    return np.unique(rows, axis=0)[::-1], 2, (6, 6, 6)


@_scene
def surface():
    """A room's surfaces: what real scans look like to a kernel."""
    return room(1500, seed=7).numpy(), 1


def room(count: int, seed: int = 0) -> Tensor:
    """Return about `count` sites of a room's floor, walls and furniture, in no order.

    Args:
        count: sites wanted.
        seed: of the furniture.

    Returns:
        int32 [N, 4] of batch item 0, unique.
    """
    rng = np.random.default_rng(seed)
    side = max(4, round((count / 1.72) ** 0.5))
    height = max(3, side // 3)
    u, v = (a.reshape(-1) for a in np.mgrid[0:side, 0:side])
    parts = [np.stack([u, v, np.rint(0.4 * np.sin(u / 5)).astype(int)], 1)]
    low = v < height
    parts += [np.stack([u[low], 0 * u[low], v[low]], 1), np.stack([0 * u[low], u[low], v[low]], 1)]
    for _ in range(6):
        at, size = rng.integers(0, side, 3) // [1, 1, 3], rng.integers(2, max(3, side // 6) + 1, 3)
        box = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1).reshape(-1, 3)
        shell = ((box == 0) | (box == size - 1)).any(1)
        parts.append(box[shell] + at)
    rows = np.unique(np.concatenate(parts), axis=0)
    rows = rng.permutation(rows).astype(np.int32)
    return torch.from_numpy(np.concatenate([np.zeros((len(rows), 1), np.int32), rows], 1))


def scene(name: str) -> Scene:
    """Return a scene by its name.

    Raises:
        KeyError: no such scene.
    """
    if name not in _MAKERS:
        raise KeyError(complain("name", f"one of {', '.join(_MAKERS)}", repr(name)))
    maker = _MAKERS[name]
    rows, batch_size, *shape = maker()
    coords = torch.from_numpy(np.array(rows, dtype=np.int32).reshape(-1, 4))
    unique = len({tuple(row) for row in coords.tolist()}) == len(coords)
    return Scene(name, maker.__doc__, coords, batch_size, shape[0] if shape else None, unique)


NAMES = tuple(_MAKERS)
UNIQUE = tuple(name for name in NAMES if name != "duplicates")
BOUNDED = tuple(name for name in UNIQUE if scene(name).spatial_shape is not None)
