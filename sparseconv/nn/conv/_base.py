"""What all convolution layers share: parameters, their memory order, their initialisation."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as dense

from sparseconv._errors import complain
from sparseconv.geometry import Geometry, Triple
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv._same import padded
from sparseconv.tensor.sparse_tensor import SparseTensor


class Convolution(ChecksInput, nn.Module):
    """Weight, bias and geometry of a convolution; subclasses say which sites it writes.

    `weight` has torch's shape and meaning, so state dicts move between dense and sparse nets. In
    memory its taps lie one after the other as [K, C / G, D], the order the kernels read.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, or `"same"` / `"valid"`.
        dilation: voxels between taps, an int or three.
        groups: G, a divisor of C and D.
        bias: whether to add a bias at active output sites.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range; the message names it.
    """

    transposed = False
    # whether `forward` is one of ours that takes `norm`, `add` and `relu`
    finishes = False

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        taken = inspect.signature(cls.forward).parameters
        ours = cls.__module__.startswith("sparseconv.")
        cls.finishes = ours and {"norm", "add", "relu"} <= taken.keys()

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(complain(name, "an int >= 1", repr(value)))
        if (
            not isinstance(groups, int)
            or groups < 1
            or in_channels % groups
            or out_channels % groups
        ):
            raise ValueError(
                complain(
                    "groups",
                    f"a divisor of in_channels {in_channels} and out_channels {out_channels}",
                    repr(groups),
                )
            )
        self.geometry = Geometry.make(kernel_size, stride, padding, dilation)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        factory = {"device": device, "dtype": dtype}
        taps = self.geometry.size
        if self.transposed:
            stored = torch.empty(*taps, in_channels, out_channels // groups, **factory)
            weight = stored.permute(3, 4, 0, 1, 2)
        else:
            stored = torch.empty(*taps, in_channels // groups, out_channels, **factory)
            weight = stored.permute(4, 3, 0, 1, 2)
        self.weight = nn.Parameter(weight)
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels, **factory))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    @property
    def kernel_size(self) -> Triple:
        """Taps per axis."""
        return self.geometry.size

    @property
    def stride(self) -> Triple:
        """Step of the output lattice, voxels."""
        return self.geometry.stride

    @property
    def padding(self) -> Triple:
        """Padding on the near side, voxels."""
        return self.geometry.padding

    @property
    def dilation(self) -> Triple:
        """Distance between taps, voxels."""
        return self.geometry.dilation

    def reset_parameters(self) -> None:
        """Draw parameters as `torch.nn.Conv3d` does; the same seed gives the same numbers."""
        weight = torch.empty(self.weight.shape, device=self.weight.device, dtype=self.weight.dtype)
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        with torch.no_grad():
            self.weight.copy_(weight)
        if self.bias is not None:
            bound = 1 / math.sqrt(max(self.weight[0].numel(), 1))
            nn.init.uniform_(self.bias, -bound, bound)

    def dense_conv3d(
        self,
        x: Tensor,  # [B, C, X, Y, Z]
    ) -> Tensor:  # [B, D, X', Y', Z']
        """Convolve a full grid with the layer's parameters, as `torch.nn.Conv3d` would."""
        g = self.geometry
        near = g.padding
        if g.far_padding != g.padding:
            # torch pads both sides alike
            x, near = padded(x, g), (0, 0, 0)
        return dense.conv3d(x, self.weight, self.bias, g.stride, near, g.dilation, self.groups)

    @staticmethod
    def finish_dense(
        y: Tensor,  # [B, D, X, Y, Z]
        add: SparseTensor | Tensor | None,  # [B, D, X, Y, Z]
        relu: bool,
    ) -> Tensor:  # [B, D, X, Y, Z]
        """Add to a dense result and clip it, where asked to."""
        y = y if add is None else y + add
        return y.relu() if relu else y

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        g = self.geometry
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={g.size}"
        for name, usual in (("stride", (1, 1, 1)), ("padding", (0, 0, 0)), ("dilation", (1, 1, 1))):
            if getattr(g, name) != usual:
                text += f", {name}={getattr(g, name)}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else text + ", bias=False"
