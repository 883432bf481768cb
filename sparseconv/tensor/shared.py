"""A topology in one block of shared memory, to be sent between processes without a copy.

Each tensor that `torch.multiprocessing` sends takes a file descriptor and a mapping of its own. A
topology has dozens of tensors; here they become views of one block.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from multiprocessing.reduction import ForkingPickler

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.tensor.topology import Topology

# bytes: whole cache lines, and whole items of every dtype
ALIGNMENT = 64

Place = tuple[torch.dtype, tuple[int, ...], int]


def tensors_of(topology: Topology) -> list[Tensor]:
    """Return the tensors of a topology that outlive a move: those of levels and rulebooks."""
    return _taken_apart(topology)[0]


@contextmanager
def room_to_share() -> Iterator[None]:
    """Say what to do where the system has no shared memory left.

    Raises:
        OSError: instead of torch's RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        if "shared memory" not in str(error):
            raise
        cure = "use fewer workers, or make /dev/shm larger (docker run --shm-size=2g)"
        found = str(error).rpartition(": ")[2]
        raise OSError(complain("shared memory", "room for a tensor", found, cure)) from error


def share(topology: Topology) -> None:
    """Put the tensors of a CPU topology into one block of shared memory, values unchanged.

    Those of another device stay as they are.
    """
    _reduce(topology)


def _reduce(topology: Topology) -> tuple:
    """Take a topology apart for another process, its tensors by way of one shared block."""
    tensors, described = _taken_apart(topology)
    if any(tensor.device.type != "cpu" for tensor in tensors):
        return topology.__reduce_ex__(2)
    block, places = _in_one_block(tensors)
    # as torch does with a tensor it sends: the sender keeps the shared one, which is thus there
    # until the other process, perhaps not yet started, has opened it
    for name, kept in _put_together(described, block, places).items():
        topology.__dict__[name] |= kept
    return _restore, (described, block, places)


def _restore(described: bytes, block: Tensor, places: list[Place]) -> Topology:
    topology = Topology()
    topology.__dict__.update(_put_together(described, block, places))
    return topology


class _Taker(pickle.Pickler):
    """Pickles everything but tensors, which it numbers and keeps."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self.tensors: list[Tensor] = []
        self.numbers: dict[int, int] = {}

    def persistent_id(self, value: object) -> int | None:
        """Return the number of a tensor, None for anything else."""
        if not isinstance(value, Tensor):
            return None
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.tensors)
            self.tensors.append(value)
        return self.numbers[id(value)]


class _Giver(pickle.Unpickler):
    """The way back."""

    def __init__(self, stream: io.BytesIO, tensors: Sequence[Tensor]) -> None:
        super().__init__(stream)
        self.tensors = tensors

    def persistent_load(self, number: int) -> Tensor:
        """Return the tensor of a number."""
        return self.tensors[number]


def _taken_apart(topology: Topology) -> tuple[list[Tensor], bytes]:
    stream = io.BytesIO()
    taker = _Taker(stream)
    taker.dump(topology.__getstate__())
    return taker.tensors, stream.getvalue()


def _put_together(described: bytes, block: Tensor, places: list[Place]) -> dict:
    tensors = [_view(block, place) for place in places]
    return _Giver(io.BytesIO(described), tensors).load()


def _in_one_block(tensors: Sequence[Tensor]) -> tuple[Tensor, list[Place]]:
    """Return a shared block of bytes that holds the tensors, and where each lies in it.

    Tensors that are views of one shared block already stay where they are.
    """
    storages = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    if len(storages) == 1 and all(t.is_shared() and t.is_contiguous() for t in tensors):
        starts = [tensor.storage_offset() * tensor.itemsize for tensor in tensors]
        return _bytes_of(tensors[0].untyped_storage()), _places(tensors, starts)
    ends = accumulate(-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors)
    *starts, size = [0, *ends]
    block = _bytes_of(torch.UntypedStorage._new_shared(max(size, 1), device="cpu"))
    places = _places(tensors, starts)
    for place, tensor in zip(places, tensors, strict=True):
        _view(block, place).copy_(tensor)
    return block, places


def _bytes_of(storage: torch.UntypedStorage) -> Tensor:
    return torch.tensor([], dtype=torch.uint8).set_(storage)


def _places(tensors: Sequence[Tensor], starts: Sequence[int]) -> list[Place]:
    return [(t.dtype, tuple(t.shape), start) for t, start in zip(tensors, starts, strict=True)]


def _view(block: Tensor, place: Place) -> Tensor:
    dtype, shape, start = place
    end = start + torch.Size(shape).numel() * dtype.itemsize
    return block[start:end].view(dtype).view(shape)


ForkingPickler.register(Topology, _reduce)
