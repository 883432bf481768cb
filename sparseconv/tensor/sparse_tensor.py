"""The sparse tensor: features at the active sites of a batch of scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.geometry import Geometry, Triple, triple
from sparseconv.ops._checks import describe
from sparseconv.ops.coords import lookup
from sparseconv.tensor.admission import (
    DUPLICATES,
    check_coords,
    check_tensors,
    check_values,
    deduplicate,
)
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.shared import room_to_share, share, tensors_of
from sparseconv.tensor.topology import ROOT, Level, Topology


class SparseTensor:
    """Features at the active sites of a batch of scans.

    A value: nothing about it changes; `replace` gives a new one with other features. Rows keep the
    caller's order. Sites that layers create come in Z-order (see `unique_coords`). Indices
    and rulebooks are kept in the topology that all tensors derived from one another share.

    Args:
        coords: int32 [N, 4]: batch, x, y, z in voxels; negative ones are legal where
            `spatial_shape` is None. int64 is accepted when every number fits int32.
        features: float64, float32, bfloat16 or float16 [N, C], on the device of `coords`.
        spatial_shape: extent (X, Y, Z) of the lattice in voxels, or None where unbounded.
        batch_size: scans in the batch, empty ones included; None for the largest batch column + 1.
        stride: voxels of the finest lattice per voxel of this one.
        duplicates: what to do with sites that occur more than once: `"error"`, or keep one row of
            `"sum"`, `"mean"` or `"first"`; the rows then come in Z-order.

    Raises:
        TypeError: a dtype is not accepted.
        ValueError: shapes do not fit, a coordinate is out of range, or a site occurs twice.

    Example:
        >>> import torch
        >>> coords = torch.tensor([[0, 1, 2, 3], [0, -1, 2, 3]], dtype=torch.int32)
        >>> SparseTensor(coords, torch.ones(2, 4))
        SparseTensor(sites=2, channels=4, float32, batch_size=1, stride=(1, 1, 1), cpu)
    """

    __slots__ = ("__weakref__", "features", "level", "topology")

    features: Tensor
    topology: Topology
    level: str

    def __init__(
        self,
        coords: Tensor,  # [N, 4] int32
        features: Tensor,  # [N, C]
        spatial_shape: int | Sequence[int] | None = None,
        batch_size: int | None = None,
        *,
        stride: int | Sequence[int] = 1,
        duplicates: str = "error",
    ) -> None:
        coords, features = check_tensors(coords, features)
        shape = None if spatial_shape is None else triple("spatial_shape", spatial_shape, least=0)
        step = triple("stride", stride, least=1)
        if duplicates not in DUPLICATES:
            raise ValueError(
                complain("duplicates", f"one of {', '.join(DUPLICATES)}", repr(duplicates))
            )
        if torch.compiler.is_compiling():
            # values cannot be looked at while a graph is traced
            if batch_size is None:
                raise ValueError(
                    complain("batch_size", "an int inside a compiled function", "None")
                )
            coords, order = coords.to(torch.int32), None
        else:
            coords, batch_size, order = check_values(coords, shape, batch_size)
            coords, features, order = deduplicate(coords, features, order, duplicates)
        level = Level(coords, step, shape, batch_size)
        topology = Topology.of(level)
        if order is not None:
            topology.orders[ROOT] = order
        _fill(self, features, topology, ROOT)

    @classmethod
    def at(cls, topology: Topology, level: str, features: Tensor) -> SparseTensor:
        """Return a tensor at a level of an existing topology.

        Args:
            topology: holds the level.
            level: name of the level.
            features: float [N, C], one row per site of the level.

        Returns:
            The tensor; nothing is copied.
        """
        return _fill(object.__new__(cls), features, topology, level)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            complain(
                f"SparseTensor.{name}",
                "no assignment: a sparse tensor is a value",
                "an assignment",
                "use x.replace(features=...)",
            )
        )

    @property
    def coords(self) -> Tensor:
        """Active sites, int32 [N, 4]: batch, x, y, z in voxels of this lattice."""
        return self.topology.levels[self.level].coords

    @property
    def stride(self) -> Triple:
        """Voxels of the finest lattice per voxel of this one."""
        return self.topology.levels[self.level].stride

    @property
    def spatial_shape(self) -> Triple | None:
        """Extent of the lattice in voxels, None where unbounded."""
        return self.topology.levels[self.level].spatial_shape

    @property
    def batch_size(self) -> int:
        """Scans in the batch, empty ones included."""
        return self.topology.levels[self.level].batch_size

    @property
    def device(self) -> torch.device:
        """Device of the features."""
        return self.features.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the features."""
        return self.features.dtype

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return self.features.shape[1]

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are wanted for the features."""
        return self.features.requires_grad

    def __len__(self) -> int:
        """Return the number of active sites N."""
        return self.features.shape[0]

    def replace(
        self,
        *,
        features: Tensor,  # [N, D]
    ) -> SparseTensor:
        """Return a tensor with other features at the same sites.

        Args:
            features: any tensor with one row per site.

        Returns:
            A tensor that shares this one's topology.

        Raises:
            ValueError: the number of rows differs.
        """
        if features.dim() != 2 or features.shape[0] != self.features.shape[0]:
            raise ValueError(
                complain(
                    "features",
                    f"[{self.features.shape[0]}, C], a row per active site",
                    describe(features),
                    "to change the sites make a new SparseTensor, or use sc.nn.Pruning",
                )
            )
        return SparseTensor.at(self.topology, self.level, features)

    def shares_sites(self, other: SparseTensor) -> bool:
        """Return whether both tensors are known to have the same sites in the same order."""
        return self.topology is other.topology and self.level == other.level

    def lookup(
        self,
        coords: Tensor,  # [Q, 4]
    ) -> Tensor:  # [Q] int64
        """Find the row of each site.

        Args:
            coords: int32 or int64 [Q, 4]: batch, x, y, z in voxels of this lattice.

        Returns:
            int64 [Q], -1 where the site is not active.

        Raises:
            TypeError, ValueError: `coords` is not integer [Q, 4].
        """
        check_coords(coords)
        wide = coords.to(torch.int64)
        low, high = torch.iinfo(torch.int32).min, torch.iinfo(torch.int32).max
        inside = ((wide >= low) & (wide <= high)).all(1)
        queries = torch.where(inside[:, None], wide, 0).to(torch.int32)
        rows = lookup(self.coords, self.topology.table(self.level), queries).to(torch.int64)
        return torch.where(inside, rows, -1)

    def to(self, *args, **kwargs) -> SparseTensor:
        """Move or cast as `torch.Tensor.to` does: the features; coordinates only change device.

        Rulebooks and indices move along; nothing is built again.
        """
        features = self.features.to(*args, **kwargs)
        if features.device == self.coords.device:
            return SparseTensor.at(self.topology, self.level, features)
        target, non_blocking = features.device, kwargs.get("non_blocking", False)
        return self._changed(features, lambda tensor: tensor.to(target, non_blocking=non_blocking))

    def cpu(self) -> SparseTensor:
        """Return the tensor on the CPU."""
        return self.to("cpu")

    def cuda(self, device: int | str | torch.device = "cuda") -> SparseTensor:
        """Return the tensor on a GPU."""
        return self.to(device)

    def pin_memory(self) -> SparseTensor:
        """Return the tensor in page-locked memory, from which `to` can copy without waiting.

        Levels and rulebooks come along. `DataLoader(pin_memory=True)` calls this.

        Raises:
            RuntimeError: torch has no accelerator here.
        """
        return self._changed(self.features.pin_memory(), Tensor.pin_memory)

    def is_pinned(self) -> bool:
        """Return whether features, levels and rulebooks are in page-locked memory."""
        return self.features.is_pinned() and all(t.is_pinned() for t in tensors_of(self.topology))

    def share_memory_(self) -> SparseTensor:
        """Move features, levels and rulebooks to shared memory, so that processes send no copies.

        Returns:
            The tensor itself; on a GPU, where memory can be shared as it is, nothing is done.

        Raises:
            OSError: there is no shared memory left.
        """
        with room_to_share():
            self.features.share_memory_()
            share(self.topology)
        return self

    def is_shared(self) -> bool:
        """Return whether features, levels and rulebooks are in shared memory."""
        return self.features.is_shared() and all(t.is_shared() for t in tensors_of(self.topology))

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep GPU memory from being used again before `stream` is done with it."""
        self.features.record_stream(stream)
        for tensor in tensors_of(self.topology):
            tensor.record_stream(stream)

    def _changed(self, features: Tensor, change: Callable[[Tensor], Tensor]) -> SparseTensor:
        # a copy of a topology has no tables, which belong to the backend that built them
        moved = copy(self.topology).apply(change)
        return SparseTensor.at(moved, self.level, features)

    def detach(self) -> SparseTensor:
        """Return the tensor without its gradient history."""
        return self.replace(features=self.features.detach())

    def __add__(self, other: SparseTensor) -> SparseTensor:
        """Add site by site: same sites row by row, else over the union of the sites."""
        from sparseconv.tensor.union import add

        return add(self, other) if isinstance(other, SparseTensor) else NotImplemented

    def dense(
        self,
        spatial_shape: int | Sequence[int] | None = None,
        origin: int | Sequence[int] = 0,
    ) -> Tensor:  # [B, C, X, Y, Z]
        """Return the tensor on a full grid; see `sparseconv.tensor.dense.to_dense`."""
        from sparseconv.tensor.dense import to_dense

        return to_dense(self, spatial_shape, origin)

    def unbatch(self) -> list[SparseTensor]:
        """Return one tensor per scan; see `sparseconv.tensor.batch.unbatch`."""
        from sparseconv.tensor.batch import unbatch

        return unbatch(self)

    def __reduce__(self):
        return _restore, (self.features, self.topology, self.level)

    def __repr__(self) -> str:
        shape = self.spatial_shape
        extent = "" if shape is None else f", spatial_shape={shape}"
        return (
            f"SparseTensor(sites={self.features.shape[0]}, channels={self.features.shape[1]}, "
            f"{str(self.dtype).removeprefix('torch.')}, batch_size={self.batch_size}, "
            f"stride={self.stride}{extent}, {self.device})"
        )


def _fill(tensor: SparseTensor, features: Tensor, topology: Topology, level: str) -> SparseTensor:
    object.__setattr__(tensor, "features", features)
    object.__setattr__(tensor, "topology", topology)
    object.__setattr__(tensor, "level", level)
    return tensor


def _restore(features: Tensor, topology: Topology, level: str) -> SparseTensor:
    return SparseTensor.at(topology, level, features)


def _flatten(tensor: SparseTensor) -> tuple[list[Tensor], tuple]:
    level = tensor.topology.levels[tensor.level]
    return [level.coords, tensor.features], (level.stride, level.spatial_shape, level.batch_size)


def _flatten_with_keys(tensor: SparseTensor) -> tuple[list[tuple], tuple]:
    tensors, context = _flatten(tensor)
    names = (torch.utils._pytree.GetAttrKey(name) for name in ("coords", "features"))
    return list(zip(names, tensors, strict=True)), context


def _unflatten(tensors: list[Tensor], context: tuple) -> SparseTensor:
    coords, features = tensors
    return SparseTensor.at(Topology.of(Level(coords, *context)), ROOT, features)


def _load_context(saved: list) -> tuple:
    stride, shape, batch_size = saved
    return tuple(stride), None if shape is None else tuple(shape), batch_size


torch.utils._pytree.register_pytree_node(
    SparseTensor,
    _flatten,
    _unflatten,
    serialized_type_name="sparseconv.SparseTensor",
    flatten_with_keys_fn=_flatten_with_keys,
    to_dumpable_context=list,
    from_dumpable_context=_load_context,
)

# torch.load(weights_only=True) may then read what torch.save wrote of these
torch.serialization.add_safe_globals([SparseTensor, _restore, Topology, Level, Rulebook, Geometry])
