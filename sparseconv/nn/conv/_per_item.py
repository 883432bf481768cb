"""What layers share whose kernel is made anew for every scan."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as dense

from sparseconv._errors import complain
from sparseconv.functional.global_pool import check_pool, global_avg_pool
from sparseconv.functional.linear import traceable_linear
from sparseconv.functional.per_item import per_item_conv
from sparseconv.geometry import Geometry
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv._same import padded
from sparseconv.nn.conv._sites import Padding, sited
from sparseconv.tensor.sparse_tensor import SparseTensor

# added to variances, as torch does
EPS = 1e-5


class PerItemConvolution(ChecksInput, nn.Module):
    """A convolution whose kernel depends on the scan, by way of the scan's mean.

    Arguments as for `torch.nn.Conv3d`; `padding="subm"` keeps the input's sites.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, `"same"`, `"valid"` or `"subm"`.
        dilation: voxels between taps, an int or three.
        groups: G.
        pool: the mean is one over a scan's active sites (`"active"`), or over all cells of the
            lattice (`"volume"`), which makes the layer equal its dense form at any occupancy.

    Raises:
        TypeError, ValueError: an argument is out of range; the message names it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        pool: str = "active",
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(complain(name, "an int >= 1", repr(value)))
        if groups < 1 or in_channels % groups or out_channels % groups:
            expected = f"a divisor of in_channels {in_channels} and out_channels {out_channels}"
            raise ValueError(complain("groups", expected, repr(groups)))
        check_pool(pool)
        self.keeps_sites, padding = sited(padding, stride)
        self.geometry = Geometry.make(kernel_size, stride, padding, dilation)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.groups, self.pool = groups, pool

    @property
    def numbers(self) -> int:
        """Numbers in the kernel of one scan: K * C / G * D."""
        return self.geometry.taps * self.in_channels // self.groups * self.out_channels

    def kernels(
        self, count: int, size: Sequence[int] | None = None, **factory: object
    ) -> nn.Parameter:
        """Return `count` kernels [E, D, C / G, kx, ky, kz] without values.

        In memory each lies as [K, C / G, D], so that mixing them is one product of matrices.
        """
        taps = self.geometry.size if size is None else size
        per_group, width = self.in_channels // self.groups, self.out_channels
        stored = torch.empty(count, *taps, per_group, width, **factory)
        return nn.Parameter(stored.permute(0, 5, 4, 1, 2, 3))

    def mean(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> Tensor:  # [B, C]
        """Return the mean of every scan, of zeros for an empty one."""
        if isinstance(x, Tensor):
            return x.mean((2, 3, 4))
        return global_avg_pool(x, self.pool)

    def convolve(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
        weight: Tensor,  # [B, K, C / G, D]
        bias: Tensor | None,  # [B, D]
    ) -> SparseTensor | Tensor:  # [M, D] or [B, D, X', Y', Z']
        """Convolve every scan with its own kernel."""
        if isinstance(x, SparseTensor):
            return per_item_conv(
                x,
                weight,
                bias,
                self.geometry,
                groups=self.groups,
                submanifold=self.keeps_sites,
            )
        g, size = self.geometry, x.shape[0]
        kernel = weight.permute(0, 3, 2, 1).reshape(-1, weight.shape[2], *g.size)
        # the scans of a batch as groups of one
        joined = padded(x, g).flatten(0, 1)[None]
        own = None if bias is None else bias.flatten()
        y = dense.conv3d(joined, kernel, own, g.stride, 0, g.dilation, size * self.groups)
        return y[0].unflatten(0, (size, self.out_channels))

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults, and the size of a kernel."""
        g = self.geometry
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={g.size}"
        if g.stride != (1, 1, 1):
            text += f", stride={g.stride}"
        if self.keeps_sites:
            text += ", padding='subm'"
        elif g.padding != (0, 0, 0):
            text += f", padding={g.padding}"
        if g.dilation != (1, 1, 1):
            text += f", dilation={g.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        parameters = sum(p.numel() for p in self.parameters())
        return f"{text}, parameters={parameters}, per_scan={self.numbers}"


def mixed(
    shares: Tensor,  # [B, E]
    kernels: Tensor,  # [E, D, C / G, kx, ky, kz]
) -> Tensor:  # [B, K, C / G, D]
    """Return the sum of the kernels, each times its share."""
    count, width, per_group, *taps = kernels.shape
    flat = kernels.permute(0, 3, 4, 5, 2, 1).reshape(count, -1)
    made = traceable_linear(shares, flat.t(), None)
    return made.reshape(shares.shape[0], math.prod(taps), per_group, width)


def draw_each(
    kernels: Tensor,  # [E, D, C / G, kx, ky, kz]
    bias: Tensor | None,  # [E, D]
) -> None:
    """Draw every kernel by itself as `torch.nn.Conv3d` does, its own inputs counting."""
    bound = 1 / math.sqrt(max(kernels[0, 0].numel(), 1))
    nn.init.uniform_(kernels, -bound, bound)
    if bias is not None:
        nn.init.uniform_(bias, -bound, bound)


class Trunk(nn.Module):
    """What the gates of a scan are made from: `relu(norm(W mean))`.

    Args:
        in_channels: C.
        hidden: width of the result.
        norm: `"batch"` over the scans of a batch, of which training then needs two; or `"layer"`.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        ValueError: no such norm.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        norm: str,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if norm not in ("batch", "layer"):
            raise ValueError(complain("norm", "'batch' or 'layer'", repr(norm)))
        factory = {"device": device, "dtype": dtype}
        self.fc = nn.Linear(in_channels, hidden, bias=False, **factory)
        kind = nn.BatchNorm1d if norm == "batch" else nn.LayerNorm
        self.norm = kind(hidden, **factory)
        nn.init.kaiming_normal_(self.fc.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self,
        mean: Tensor,  # [B, C]
    ) -> Tensor:  # [B, hidden]
        """Return the hidden vector of every scan.

        Raises:
            ValueError: a batch norm is to be trained on one scan.
        """
        if self.training and isinstance(self.norm, nn.BatchNorm1d) and mean.shape[0] < 2:
            raise ValueError(
                complain(
                    "norm",
                    "two scans or more in a batch, to train with norm='batch'",
                    f"{mean.shape[0]}",
                    "make the layer with norm='layer', which looks at one scan alone",
                )
            )
        hidden, norm = self.fc(mean), self.norm
        if isinstance(norm, nn.LayerNorm):
            # written out: torch's own sums over scans depend on the number of threads, and a
            # traced graph takes a module's float for an input, for which it is made again
            hidden = hidden - hidden.mean(1, keepdim=True)
            spread = (hidden.square().mean(1, keepdim=True) + EPS).sqrt()
            return (hidden / spread * norm.weight + norm.bias).relu()
        return norm(hidden).relu()


class Annealed(nn.Module):
    """A temperature that the training loop lowers; part of the state dict.

    Args:
        start: the first value.
        least: the smallest value allowed.
    """

    def __init__(self, start: float, least: float = 0.0) -> None:
        super().__init__()
        self.least = least
        self.register_buffer("value", torch.zeros(()))
        self.set(start)

    def set(self, value: float) -> None:
        """Set the temperature.

        Raises:
            ValueError: it is below the least one, or no number.
        """
        if not value >= self.least or math.isinf(value):
            raise ValueError(complain("temperature", f"a number >= {self.least}", f"{value}"))
        self.value.fill_(value)

    def extra_repr(self) -> str:
        """Return the temperature."""
        return "" if self.value.is_meta else f"{float(self.value):g}"
