"""Dimension-wise convolution: kernels of a channel, and kernels of the planes across each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional as dense

from sparseconv._errors import complain
from sparseconv.functional.full_grid import on_full_grid
from sparseconv.functional.planes import plane_conv, resample_planes
from sparseconv.geometry import Geometry, Triple, triple
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv.group_pointwise import GroupPointwiseConv3d
from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.family import Family
from sparseconv.nn.sequential import Sequential
from sparseconv.tensor.sparse_tensor import SparseTensor

AXES = "cxyz"
MODES = ("strict", "interpolate")


def four(name: str, value: int | Sequence[int], *, odd: bool) -> tuple[int, int, int, int]:
    """Read one int, or four for channels, x, y and z.

    Raises:
        ValueError: neither, below 1, or even where odd ones are asked for.
    """
    values = (value,) * 4 if isinstance(value, int) else tuple(value)
    if len(values) != 4 or any(not isinstance(v, int) or v < 1 for v in values):
        raise ValueError(complain(name, "an int or four (channels, x, y, z), >= 1", repr(value)))
    if odd and not all(v % 2 for v in values):
        raise ValueError(complain(name, "odd sizes", repr(value)))
    return values


def fill_bank(bank: Tensor) -> None:
    """Draw kernels as torch's convolutions do, the window being what a kernel reads."""
    bound = 1 / math.sqrt(bank[0].numel())
    nn.init.uniform_(bank, -bound, bound)


class DimConv3d(ChecksInput, nn.Module):
    """Convolve along every dimension, channels among them, with kernels of that dimension's planes.

    Branch c has a spatial kernel for each channel; branch x has a kernel over neighbouring
    channels, y and z for each plane x, and so on:
    `Y_c[n, c] = sum over i, j, k of K_c[c, i, j, k] x[site(n) + (i, j, k), c]`,
    `Y_x[n, c] = sum over a, j, k of K_x[x(n), a, j, k] x[site(n) + (0, j, k), c + a]`.
    Channel `len(axes) c + r` of the result is branch r of channel c, so that a grouped layer behind
    it finds a channel's branches side by side. Kernels of planes are tied to places: the layer
    knows a lattice of fixed extent, and shifting a scan changes the result. The sites of an
    unbounded tensor must lie within that extent.

    Args:
        channels: C.
        spatial_shape: extent (X, Y, Z) of the lattice in voxels.
        kernel_size: taps, odd, one int or four (channels, x, y, z).
        axes: the branches in order, of `"cxyz"`; with `"xyz"` and one tap along channels the voxel
            volume itself is what the paper calls D x H x W.
        dilation: between taps, one int or four (channels, x, y, z).
        bias: whether to add one.
        plane_mode: on a lattice of another extent, `"strict"` refuses and `"interpolate"`
            stretches the kernels linearly along their axis.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        ValueError: an argument is out of range.

    Source:
        Mehta, Hajishirzi, Rastegari, "DiCENet: Dimension-wise Convolutions for Efficient
        Networks", arXiv:1906.03516, whose channels, height and width (see `DimConv2d`) become
        channels, x, y and z here.
    """

    def __init__(
        self,
        channels: int,
        spatial_shape: int | Sequence[int],
        kernel_size: int | Sequence[int] = 3,
        axes: str | Sequence[str] = AXES,
        dilation: int | Sequence[int] = 1,
        bias: bool = False,
        plane_mode: str = "strict",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        axes = "".join(axes)
        if not axes or set(axes) - set(AXES) or len(set(axes)) != len(axes):
            raise ValueError(complain("axes", "some of 'cxyz', each once", repr(axes)))
        if plane_mode not in MODES:
            raise ValueError(complain("plane_mode", "'strict' or 'interpolate'", repr(plane_mode)))
        size = four("kernel_size", kernel_size, odd=True)
        gaps = four("dilation", dilation, odd=False)
        self.in_channels = self.channels = channels
        self.out_channels = len(axes) * channels
        self.axes, self.plane_mode, self.kernel_size = axes, plane_mode, size
        self.spatial_shape = triple("spatial_shape", spatial_shape, least=1)
        extent = (channels, *self.spatial_shape)
        self.shifts = tuple((j - size[0] // 2) * gaps[0] for j in range(size[0]))
        self.banks = nn.ParameterDict()
        for axis in axes:
            n = AXES.index(axis)
            kernel = [k for m, k in enumerate(size) if m != n]  # it stands still along its axis
            self.banks[axis] = nn.Parameter(
                torch.empty(extent[n], *kernel, device=device, dtype=dtype)
            )
        # one window for all branches, flat if there is but one plane kernel
        window = [1 if axes == axis else k for axis, k in zip("xyz", size[1:], strict=True)]
        self.geometry = Geometry.submanifold(window, gaps[1:])
        if bias:
            self.bias = nn.Parameter(torch.zeros(self.out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the kernels as torch's convolutions do, their fan-in being the taps of a window."""
        for bank in self.banks.values():
            fill_bank(bank)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def joins(self, module: nn.Module) -> bool:
        """Return whether `forward` can do the work of a pointwise layer that follows.

        That is one which makes each channel's branches one number; then nothing of 4 C channels is
        made. `Sequential` asks.
        """
        return (
            type(module) in (PointwiseConv3d, GroupPointwiseConv3d)
            and self.bias is None
            and module.groups == self.channels == module.out_channels
            and module.in_channels == self.out_channels
            and module.stride == (1, 1, 1)
        )

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
        *,
        join: PointwiseConv3d | None = None,
    ) -> SparseTensor | Tensor:
        """Convolve along every dimension.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].
            join: a layer that `joins` accepts, applied to the result.

        Returns:
            [N, len(axes) C] at the sites of `x`, or dense [B, len(axes) C, X, Y, Z]; with `join` C
            channels.
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            y = on_full_grid(self, x)
            return y if join is None else join(y)
        shape, banks = x.spatial_shape, [self.banks[axis] for axis in self.axes]
        if shape is None or shape == self.spatial_shape or self.axes == "c":
            shape = self.spatial_shape
        elif self.plane_mode == "strict":
            expected = f"the lattice the layer was made for, {self.spatial_shape}"
            cure = "make the layer with plane_mode='interpolate'"
            raise ValueError(complain("x", expected, f"{shape}", cure))
        else:
            banks = [
                bank if axis == "c" else resample_planes(bank, shape["xyz".index(axis)])
                for axis, bank in zip(self.axes, banks, strict=True)
            ]
        axes = [AXES.index(axis) for axis in self.axes]
        given = x, banks, axes, shape, self.shifts, self.geometry
        if join is not None:
            by_branch = join.weight.flatten(1).t()
            return x.replace(features=plane_conv(*given, by_branch, join.bias))
        y = plane_conv(*given)
        return x.replace(features=y if self.bias is None else y + self.bias.to(y.dtype))

    def extra_repr(self) -> str:
        """Return channels, extent, kernel size and branches."""
        return (
            f"{self.channels}, {self.spatial_shape}, kernel_size={self.kernel_size}, "
            f"axes={self.axes!r}"
        )


class DimConv2d(nn.Module):
    """The published layer: dimension-wise convolution of images of fixed height and width.

    Kernels of channel c slide over height and width, those of row h over channels and width, those
    of column w over channels and height; channel `3 c + r` of the result is branch r (channel,
    height, width) of channel c. Kernel axes are in the order they are named here; the authors'
    width kernels have height before channels.

    Args:
        channels: C.
        height: H.
        width: W.
        kernel_size: taps, odd.
        dilation: between taps, of the three branches.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        ValueError: an argument is out of range.

    Source:
        Mehta, Hajishirzi, Rastegari, arXiv:1906.03516.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        kernel_size: int = 3,
        dilation: Sequence[int] = (1, 1, 1),
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        four("kernel_size", kernel_size, odd=True)
        self.extent = (channels, height, width)
        self.dilation = triple("dilation", dilation, least=1)
        self.banks = nn.ParameterDict()
        for axis, count in zip("chw", self.extent, strict=True):
            bank = torch.empty(count, kernel_size, kernel_size, device=device, dtype=dtype)
            fill_bank(bank)
            self.banks[axis] = nn.Parameter(bank)

    def forward(
        self,
        x: Tensor,  # [B, C, H, W]
    ) -> Tensor:  # [B, 3 C, H, W]
        """Return the branches, interleaved."""
        if tuple(x.shape[1:]) != self.extent:
            expected = f"[B, {', '.join(map(str, self.extent))}]"
            raise ValueError(complain("x", expected, f"{list(x.shape)}"))
        done = []
        # each dimension in turn in the place of the channels of a depthwise convolution
        for axis, order, gap in zip(
            "chw", ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2)), self.dilation, strict=True
        ):
            bank = self.banks[axis]
            turned, pad = x.permute(order), gap * (bank.shape[1] // 2)
            y = dense.conv2d(turned, bank[:, None], None, 1, pad, gap, bank.shape[0])
            done.append(y.permute([order.index(n) for n in range(4)]))
        return torch.stack(done, 2).flatten(1, 2)


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    # where the extent is not known, kernels of 16 planes are stretched to the one that comes
    shape, mode = spatial_shape or (16, 16, 16), "strict" if spatial_shape else "interpolate"
    layer = DimConv3d(in_channels, shape, plane_mode=mode)
    groups = gcd(in_channels, out_channels)
    return Sequential(layer, GroupPointwiseConv3d(layer.out_channels, out_channels, groups, True))


FAMILIES = (
    Family(
        number=36,
        key="dim",
        title="Dimension-wise convolution (DimConv)",
        layer=DimConv3d,
        paper="arXiv:1906.03516",
        summary="Beside a kernel for each channel, kernels for each plane across x, y and z, which "
        "slide over neighbouring channels too.",
        formula="Y_c[n, c] = sum of K_c[c, i, j, k] x[site(n) + (i, j, k), c], "
        "Y_x[n, c] = sum of K_x[x(n), a, j, k] x[site(n) + (0, j, k), c + a], y and z alike",
        on_sparse="Absent neighbours add 0; neighbouring channels are always there. The extent of "
        "the lattice is part of the layer. In a net, a grouped pointwise layer joins the branches.",
        use_when="On scans that always lie alike in a box of fixed extent, such as of one sensor.",
        primitives=("rulebook", "cube_rulebook", "dim_conv"),
        make=_make,
        translation=0,
    ),
)
