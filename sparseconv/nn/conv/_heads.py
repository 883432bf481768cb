"""The convolution that predicts offsets: it begins as nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.functional.conv import conv3d, submanifold_conv3d
from sparseconv.nn.conv._sites import SitedConvolution
from sparseconv.tensor.sparse_tensor import SparseTensor


class Heads(SitedConvolution):
    """A convolution whose parameters begin at 0, onto the sites of the layer it predicts for.

    Args:
        *args: those of the layer: channels, kernel, stride, padding, dilation.
        offset_lr_mult: what the gradients of its parameters are multiplied by.
        **factory: `device` and `dtype` of the parameters.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """

    def __init__(self, *args: object, offset_lr_mult: float = 1.0, **factory: object) -> None:
        super().__init__(*args, **factory)
        self.register_buffer("rate", rate_of(offset_lr_mult, factory), persistent=False)

    def reset_parameters(self) -> None:
        """Set weight and bias to 0."""
        with torch.no_grad():
            self.weight.zero_()
            self.bias.zero_()

    def onto(
        self,
        x: SparseTensor,  # [N, C]
        sites: SparseTensor | None,
    ) -> SparseTensor:  # [M, D]
        """Convolve onto the sites of another tensor, or those the padding asks for."""
        parameters = slowed(self.weight, self.bias, self.rate)
        if self.keeps_sites and sites is None:
            return submanifold_conv3d(x, *parameters, self.geometry)
        return conv3d(x, *parameters, self.geometry, sites=sites)


def rate_of(by: float, factory: dict) -> Tensor | None:
    """Return what `slowed` takes for `offset_lr_mult`: None for 1.

    A tensor, for a traced graph takes every number of a module for one that may change.

    Raises:
        ValueError: not a number of at least 0.
    """
    if not 0 <= by < float("inf"):
        raise ValueError(complain("offset_lr_mult", "a number of at least 0", repr(by)))
    return None if by == 1 else torch.tensor(float(by), **factory)


def slowed(
    weight: Tensor,
    bias: Tensor,
    rate: Tensor | None,  # []
) -> tuple[Tensor, Tensor]:
    """Return the same numbers, whose gradients are multiplied by a rate."""
    if rate is None:
        return weight, bias
    # what is added is exactly 0
    return tuple(p.detach() + rate * (p - p.detach()) for p in (weight, bias))
