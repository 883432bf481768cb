"""What the catalogue says of a family of convolutions; each layer's file carries its own entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from sparseconv.geometry import Triple


@dataclass(frozen=True)
class Family:
    """One entry of the catalogue.

    Attributes:
        number: of the row, which orders the gallery.
        key: short name, as in `MinkUNet(conv="involution")`.
        title: as catalogues call it.
        layer: the class.
        paper: where it was published, such as `"arXiv:1711.10275"`.
        summary: what it does, one sentence.
        formula: in plain text, with the shapes' letters of `docs/conventions.md`.
        on_sparse: what happens at sites whose neighbours are absent, one or two sentences.
        use_when: when to take it, one sentence.
        primitives: names of the ops it is made of.
        make: a layer from `in_channels` to `out_channels` at the sites of its input, as it would
            stand in a net instead of a 3x3x3 submanifold convolution; the third argument is the
            extent of the lattice in voxels, or None.
        translation: voxels by whose multiples sites may be moved along every axis with the result
            moving with them; 0 where the layer knows its place.
    """

    number: int
    key: str
    title: str
    layer: type[nn.Module]
    paper: str
    summary: str
    formula: str
    on_sparse: str
    use_when: str
    primitives: tuple[str, ...]
    make: Callable[[int, int, Triple | None], nn.Module]
    translation: int = 1
