"""Flattened convolution: a kernel that is the outer product of four vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.linear import traceable_linear
from sparseconv.geometry import Geometry, Triple
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv._same import same_conv3d
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor

MODES = ("sequential", "exact")
BIASES = ("last", "all", None)


class FlattenedConv3d(ChecksInput, nn.Module):
    """Convolve with kernels of rank one: across channels, then along x, y and z.

    The kernel of output f is `W[f, c, i, j, k] = lateral[f, c] along_x[f, i] along_y[f, j]
    along_z[f, k]`: C + kx + ky + kz numbers instead of C kx ky kz. It is applied at the sites of
    the input in one of two ways. `"exact"` mixes the channels and then applies the product of the
    three lines as one depthwise kernel: the rank-one convolution whatever the sites, its absent
    neighbours adding 0. `"sequential"` applies the lines one after another, which reads fewer
    neighbours; where the site at a corner of the path is absent, that path is lost, so that the
    two agree on full grids alone.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        dilation: voxels between taps, an int or three.
        bias: `"last"`, `"all"` stages (sequential mode alone), or None.
        mode: `"sequential"` or `"exact"`.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Source:
        Jin, Dundar, Culurciello, "Flattened Convolutional Neural Networks for Feedforward
        Acceleration", arXiv:1412.5474.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        dilation: int | Sequence[int] = 1,
        bias: str | None = "last",
        mode: str = "sequential",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(complain("mode", "'sequential' or 'exact'", repr(mode)))
        if bias not in BIASES or (bias == "all" and mode == "exact"):
            found = f"{bias!r} with mode {mode!r}"
            raise ValueError(
                complain("bias", "'last' or None, or 'all' with mode 'sequential'", found)
            )
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(complain(name, "an int >= 1", repr(value)))
        self.in_channels, self.out_channels = in_channels, out_channels
        self.mode, self.biased = mode, bias
        self.geometry = Geometry.submanifold(kernel_size, dilation)
        (kx, ky, kz), gaps = self.geometry.size, self.geometry.dilation
        self.lines = tuple(
            Geometry.submanifold(size, gaps) for size in ((kx, 1, 1), (1, ky, 1), (1, 1, kz))
        )
        factory = {"device": device, "dtype": dtype}
        self.lateral = nn.Parameter(torch.empty(out_channels, in_channels, **factory))
        self.along_x = nn.Parameter(torch.empty(out_channels, kx, **factory))
        self.along_y = nn.Parameter(torch.empty(out_channels, ky, **factory))
        self.along_z = nn.Parameter(torch.empty(out_channels, kz, **factory))
        for name, wanted in (
            ("lateral_bias", bias == "all"),
            ("x_bias", bias == "all"),
            ("y_bias", bias == "all"),
            ("bias", bias is not None),
        ):
            made = nn.Parameter(torch.empty(out_channels, **factory)) if wanted else None
            self.register_parameter(name, made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every stage as torch draws a layer of its fan-in: uniform in +-1 / sqrt(fan-in)."""
        for weight, bias in (
            (self.lateral, self.lateral_bias),
            (self.along_x, self.x_bias),
            (self.along_y, self.y_bias),
            (self.along_z, self.bias),
        ):
            bound = 1 / math.sqrt(weight.shape[1])
            nn.init.uniform_(weight, -bound, bound)
            if bias is not None:
                nn.init.uniform_(bias, -bound, bound)

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].

        Returns:
            [N, D] at the sites of `x`, or dense [B, D, X, Y, Z].
        """
        self.check_input(x)
        if isinstance(x, SparseTensor):
            rows = traceable_linear(x.features, self.lateral, self.lateral_bias)
            y = x.replace(features=rows)
        else:
            y = nn.functional.conv3d(x, self.lateral[:, :, None, None, None], self.lateral_bias)
        along_x = self.along_x[:, None, :, None, None]
        along_y = self.along_y[:, None, None, :, None]
        along_z = self.along_z[:, None, None, None, :]
        groups = self.out_channels
        if self.mode == "exact":
            return same_conv3d(y, along_x * along_y * along_z, self.bias, self.geometry, groups)
        stages = ((along_x, self.x_bias), (along_y, self.y_bias), (along_z, self.bias))
        for (weight, bias), line in zip(stages, self.lines, strict=True):
            y = same_conv3d(y, weight, bias, line, groups)
        return y

    def extra_repr(self) -> str:
        """Return the arguments."""
        g = self.geometry
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={g.size}"
        text += "" if g.dilation == (1, 1, 1) else f", dilation={g.dilation}"
        return f"{text}, bias={self.biased!r}, mode={self.mode!r}"


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return FlattenedConv3d(in_channels, out_channels, 3)


FAMILIES = (
    Family(
        number=13,
        key="flattened",
        title="Flattened convolution",
        layer=FlattenedConv3d,
        paper="arXiv:1412.5474",
        summary="A kernel of rank one, applied as a map across channels and three lines along the "
        "axes.",
        formula="y[n, f] = b + sum over k of g[f, k] sum over j of b[f, j] sum over i of a[f, i] "
        "sum over c of l[f, c] x[site(n) + (i, j, k), c]",
        on_sparse="Between the lines only active sites carry values: a path whose corner is absent "
        "is lost, so the result is that of the rank-one kernel on full grids alone. "
        "mode='exact' applies the product kernel at once and is right on any sites.",
        use_when="For the fewest weights and products; to see what a full kernel buys.",
        primitives=("rulebook", "conv"),
        make=_make,
    ),
)
