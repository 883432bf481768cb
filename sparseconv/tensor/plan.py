"""Which levels and rulebooks a net asks for, so that they can be built before it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from sparseconv._errors import complain
from sparseconv.geometry import Geometry, Offsets, Triple, parse_key
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.topology import ROOT, Topology

_MADE = re.compile(r"(?P<source>.+)(?P<way>[/^])(?P<key>k[^/^o]+)(?:o(?P<padding>\d+\.\d+\.\d+))?")
_BOOK = re.compile(r"(?P<source>[^>]+)>(?P<target>[^:]+):(?P<key>.+)")


@dataclass(frozen=True)
class Plan:
    """The levels and rulebooks of a net, by name: strings alone, cheap to send to a worker.

    A name says how a level is made from the root of a topology, so the plan recorded on one scan
    builds the same on every other. Sites that depend on features (pruning, sums over different
    sites, `sites=` of another tensor) have no such name; layers on them build when they run.

    Attributes:
        levels: names, every level after the one it is made from.
        rulebooks: names: source level, target level, geometry.
        left_out: modules whose result lives on sites the plan does not know, as `plan` saw them.

    Example:
        >>> import torch
        >>> from sparseconv.nn.pool import MaxPool3d
        >>> coords = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.int32)
        >>> net_plan = plan(MaxPool3d(2), SparseTensor(coords, torch.ones(2, 1)))
        >>> x = net_plan.build(SparseTensor(coords, torch.ones(2, 1)))
        >>> net_plan, len(x.topology.rulebooks)
        (Plan(levels=1, rulebooks=1), 1)
    """

    levels: tuple[str, ...] = ()
    rulebooks: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, x: SparseTensor) -> Plan:
        """Record what the topology of `x` holds by now, such as after a net has run on it.

        Args:
            x: any tensor of the topology.

        Returns:
            Its levels but the root, and its rulebooks.
        """
        return cls(
            tuple(name for name in x.topology.levels if name != ROOT), tuple(x.topology.rulebooks)
        )

    def build(self, x: SparseTensor) -> SparseTensor:
        """Build the levels and rulebooks of the plan that the topology of `x` lacks.

        Args:
            x: at the root of its topology, as tensors are that no layer made.

        Returns:
            `x` itself.

        Raises:
            ValueError: `x` is not at the root, or a name is not one of this library's.
        """
        if x.level != ROOT:
            raise ValueError(
                complain(
                    "x",
                    "a tensor at the root of its topology",
                    f"one at the level {x.level!r}",
                    "build on the tensor the net is given",
                )
            )
        topology = x.topology
        for name in self.levels:
            source, geometry, padding = _made(name)
            if padding is None:
                topology.down(source, geometry)
            else:
                topology.up(source, geometry, padding)
        for name in self.rulebooks:
            topology.rulebook(*_book(name))
        return x

    def __repr__(self) -> str:
        left = f", left_out={list(self.left_out)}" if self.left_out else ""
        return f"Plan(levels={len(self.levels)}, rulebooks={len(self.rulebooks)}{left})"


def plan(net: Callable[[SparseTensor], object], x: SparseTensor) -> Plan:
    """Record which levels and rulebooks a net asks for, by running it once.

    Args:
        net: a module, run in evaluation mode without gradients and left as it was, or a function.
        x: a tensor such as the net is given; a small one will do. It stays as it is.

    Returns:
        The plan; `left_out` names the modules whose sites depend on features.
    """
    level = x.topology.levels[x.level]
    fresh = SparseTensor.at(Topology.of(level), ROOT, x.features.detach())
    elsewhere: list[str] = []
    with ExitStack() as stack:
        if isinstance(net, nn.Module):
            stack.enter_context(_evaluating(net))
            for name, module in net.named_modules():
                watch = _watcher(name or type(module).__name__, fresh.topology, elsewhere)
                stack.callback(module.register_forward_hook(watch).remove)
        stack.enter_context(torch.no_grad())
        net(fresh)
    found = Plan.of(fresh)
    return Plan(found.levels, found.rulebooks, tuple(dict.fromkeys(elsewhere)))


def _watcher(name: str, topology: Topology, elsewhere: list[str]) -> Callable:
    def watch(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, SparseTensor) and output.topology is not topology:
            elsewhere.append(name)

    return watch


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode, in which a pass leaves no trace, and back module by module."""
    before = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@cache
def _made(name: str) -> tuple[str, Geometry, Triple | None]:
    found = _MADE.fullmatch(name)
    if not found or (found["way"] == "^") != (found["padding"] is not None):
        raise ValueError(complain("levels", "names of levels made by convolutions", repr(name)))
    padding = found["padding"]
    return (
        found["source"],
        Geometry.parse(found["key"]),
        None if padding is None else tuple(map(int, padding.split("."))),
    )


@cache
def _book(name: str) -> tuple[str, str, Geometry | Offsets]:
    found = _BOOK.fullmatch(name)
    if not found:
        raise ValueError(complain("rulebooks", "names of rulebooks", repr(name)))
    return found["source"], found["target"], parse_key(found["key"])
