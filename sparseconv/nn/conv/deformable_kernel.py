"""Deformable kernels, global: the scan moves the points at which a kernel is read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.geometry import Triple, triple
from sparseconv.nn.conv._per_item import PerItemConvolution
from sparseconv.nn.conv._sites import Padding
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor


class GlobalDeformKernel3d(PerItemConvolution):
    """Convolve every scan with a kernel read between the cells of a larger one.

    Sites stay where they are; tap t of scan b has the weight
    `W[b, t] = sum over s of (product over axes of max(0, 1 - |p[b, t] - s|)) W[s]`, s running over
    the cells of the scope, at `p[b, t] = t + (S - k) / 2 + fc(mean(x))[b, t]`, kept within the
    scope axis by axis. As made, where fc is 0, every tap is read about the middle of the scope: of
    a scope as large as the kernel, at its own cells; of one larger by 1, halfway between cells,
    which averages 2 x 2 x 2 of them.

    Args:
        in_channels: C.
        out_channels: D.
        scope: cells of the larger kernel per axis, an int or three, none below `kernel_size`.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, `"same"`, `"valid"`, or `"subm"` to keep the input's
            sites.
        dilation: voxels between taps, an int or three.
        groups: G.
        bias: whether to add a bias.
        pool: `"active"` or `"volume"`; see `PerItemConvolution`.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Source:
        Gao, Zhu, Lin, Dai, "Deformable Kernels: Adapting Effective Receptive Fields for Object
        Deformation", arXiv:1910.02940; here with a third axis.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scope: int | Sequence[int],
        kernel_size: int | Sequence[int] = 1,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = False,
        pool: str = "active",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, pool
        )
        self.scope = triple("scope", scope, least=1)
        if any(s < k for s, k in zip(self.scope, self.geometry.size, strict=True)):
            expected = f"at least the kernel's size {self.geometry.size}"
            raise ValueError(complain("scope", expected, f"{self.scope}"))
        factory = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(self.kernels(1, self.scope, **factory).detach()[0])
        self.bias = nn.Parameter(torch.empty(out_channels, **factory)) if bias else None
        self.fc = nn.Linear(in_channels, 3 * self.geometry.taps, **factory)
        bound = 1 / math.sqrt(self.geometry.taps * in_channels // groups)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)
        both = zip(self.geometry.size, self.scope, strict=True)
        axes = [torch.arange(k) + (s - k) / 2 for k, s in both]
        rest = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        self.register_buffer("rest", rest.to(self.fc.weight), persistent=False)

    def positions(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> Tensor:  # [B, K, 3]
        """Return where each tap of each scan reads the scope, in cells."""
        moved = self.fc(self.mean(x))
        moved = self.rest + moved.to(self.rest.dtype).reshape(moved.shape[0], -1, 3)
        last = [moved[..., axis].clamp(0, s - 1) for axis, s in enumerate(self.scope)]
        return torch.stack(last, -1)

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Return [M, D], or dense [B, D, X', Y', Z']."""
        self.check_input(x)
        positions = self.positions(x)
        near = [_between(positions[..., axis], s) for axis, s in enumerate(self.scope)]
        cells = torch.einsum("btx,bty,btz->btxyz", *near).flatten(2)
        width, per_group = self.weight.shape[:2]
        flat = self.weight.permute(2, 3, 4, 1, 0).reshape(-1, per_group * width)
        weight = (cells.to(flat.dtype) @ flat).unflatten(2, (per_group, width))
        bias = None if self.bias is None else self.bias.expand(weight.shape[0], -1)
        return self.convolve(x, weight, bias)

    def extra_repr(self) -> str:
        """Return the arguments, and the scope."""
        return f"{super().extra_repr()}, scope={self.scope}"


def _between(
    positions: Tensor,  # [B, K]
    size: int,
) -> Tensor:  # [B, K, S]
    """Return the shares of the cells on both sides of positions within 0 and S - 1."""
    if size == 1:
        return torch.ones_like(positions)[..., None]
    cells = torch.arange(size, device=positions.device)
    # at the last cell the one below it is the other side, so that the slope is that of the inside
    below = positions.detach().floor().clamp(max=size - 2)
    part = (positions - below)[..., None]
    below = below[..., None]
    return (cells == below) * (1 - part) + (cells == below + 1) * part


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return GlobalDeformKernel3d(in_channels, out_channels, 4, 3, padding="subm", bias=True)


FAMILIES = (
    Family(
        number=26,
        key="deformable_kernel",
        title="Deformable kernels",
        layer=GlobalDeformKernel3d,
        paper="arXiv:1910.02940",
        summary="The kernel is read between the cells of a larger one, at points moved by the "
        "scan's mean (GlobalDeformKernel3d) or by each site's neighbourhood "
        "(LocalDeformKernel3d); sites stay where they are. DeformKernelConv3d moves the taps, too.",
        formula="y[n] = sum over taps t of W(t + (S - k) / 2 + d[t]) x[site(n) + offset(t)], W "
        "read between its S^3 cells by trilinear interpolation, d from the mean of scan b or from "
        "site n",
        on_sparse="No site is read that a plain convolution would not read, absent ones adding 0. "
        "The mean runs over a scan's active sites, so points do not depend on how much space is "
        "empty.",
        use_when="To let a kernel adapt to density and size of what is scanned, without reading "
        "between sites.",
        primitives=("rulebook", "split_by_item", "aggregate", "conv"),
        make=_make,
    ),
)
