"""Selective kernel: branches of different reach, among which each scan chooses by channel."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.conv import by_tap, over_rulebook
from sparseconv.functional.global_pool import check_pool, global_avg_pool
from sparseconv.functional.parents import parents
from sparseconv.functional.per_item import of_items
from sparseconv.geometry import Triple
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv._norms import norm_named, normed_relu
from sparseconv.nn.family import Family
from sparseconv.nn.on_rows import on_rows
from sparseconv.tensor.sparse_tensor import SparseTensor


class SKConv3d(ChecksInput, nn.Module):
    """Run branches of different reach and let each scan choose among them, channel by channel.

    `U_m = relu(norm(conv_m(x)))`, `s[b] = mean over sites of scan b of sum over m of U_m`,
    `z = relu(norm(W s))`, `a = softmax over m of V_m z`, `y[n, c] = sum over m of a_m[b, c]
    U_m[n, c]`. The second branch of the usual two has 3 taps an axis, two voxels apart. Batch norm
    of z needs several scans to train; with one it uses its running statistics. With a
    stride s, outputs are the blocks of s^3 voxels that hold a site, for every branch.

    Args:
        in_channels: C.
        out_channels: D; None for C.
        kernel_sizes: taps per axis of each branch, odd.
        dilations: voxels between taps of each branch.
        stride: voxels, an int or three.
        groups: G of every branch, a divisor of C and D.
        reduction: z has D // reduction numbers,
        min_dim: but at least so many.
        norm: `"batch"`, `"layer"` or None.
        pool: average over the scan's active sites (`"active"`) or all cells of the lattice
            (`"volume"`).
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        ValueError: an argument is out of range.

    Source:
        Li et al., "Selective Kernel Networks", arXiv:1903.06586, equations 1 to 6, of images; here
        over voxels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_sizes: Sequence[int] = (3, 3),
        dilations: Sequence[int] = (1, 2),
        stride: int | Triple = 1,
        groups: int = 32,
        reduction: int = 16,
        min_dim: int = 32,
        norm: str | None = "batch",
        pool: str = "active",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        width = in_channels if out_channels is None else out_channels
        kernels, gaps = list(kernel_sizes), list(dilations)
        if not kernels or any(not isinstance(k, int) or k < 1 or k % 2 == 0 for k in kernels):
            expected = "odd ints, one per branch"
            raise ValueError(complain("kernel_sizes", expected, repr(kernel_sizes)))
        if len(gaps) != len(kernels):
            expected = f"{len(kernels)} ints, one per branch"
            raise ValueError(complain("dilations", expected, repr(dilations)))
        check_pool(pool)
        self.in_channels, self.out_channels, self.pool = in_channels, width, pool
        factory = {"device": device, "dtype": dtype}
        self.branches, self.norms = nn.ModuleList(), nn.ModuleList()
        for kernel, gap in zip(kernels, gaps, strict=True):
            pad = gap * (kernel // 2)
            self.branches.append(
                Convolution(
                    in_channels, width, kernel, stride, pad, gap, groups, bias=False, **factory
                )
            )
            self.norms.append(norm_named(norm, width, **factory))
        hidden = max(width // reduction, min_dim)
        self.squeeze = nn.Linear(width, hidden, bias=False, **factory)
        self.squeeze_norm = norm_named(norm, hidden, **factory)
        # rows branch by branch
        self.excite = nn.Linear(hidden, len(kernels) * width, bias=False, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw kernels as He et al. do, and nearly even shares."""
        for branch in self.branches:
            drawn = torch.empty(
                branch.weight.shape, dtype=branch.weight.dtype, device=branch.weight.device
            )
            with torch.no_grad():
                branch.weight.copy_(nn.init.kaiming_normal_(drawn))
        for linear in (self.squeeze, self.excite):
            nn.init.normal_(linear.weight, std=0.01)

    def shares(
        self,
        mean: Tensor,  # [B, D]
    ) -> Tensor:  # [B, branches, D]
        """Return how much of each branch each channel of each scan takes; they add up to 1."""
        z = normed_relu(self.squeeze_norm, self.squeeze(mean))
        return self.excite(z).unflatten(1, (len(self.branches), -1)).softmax(1)

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Return [M, D], or dense [B, D, X', Y', Z'] with every extent n going to ceil(n / s)."""
        self.check_input(x)
        outs = self._branches(x)
        if isinstance(x, Tensor):
            shares = self.shares(sum(outs).mean((2, 3, 4)))[..., None, None, None]
            return self._select(outs, shares.unbind(1))
        like, values = outs[0], [out.features for out in outs]
        mean = global_avg_pool(like.replace(features=sum(values[1:], values[0])), self.pool)
        shares = [of_items(share, like) for share in self.shares(mean).to(like.dtype).unbind(1)]
        return like.replace(features=self._select(values, shares))

    def _branches(self, x: SparseTensor | Tensor) -> list[SparseTensor | Tensor]:
        if isinstance(x, Tensor):
            convolved = [branch.dense_conv3d(x) for branch in self.branches]
        else:
            stride = self.branches[0].stride
            target = x.level if stride == (1, 1, 1) else parents(x, stride)
            convolved = []
            for branch in self.branches:
                book = x.topology.rulebook(x.level, target, branch.geometry)
                taps, args = by_tap(branch.weight), (x.topology, target, branch.groups)
                convolved.append(over_rulebook(x, taps, None, book, *args))
        return [
            on_rows(_NormedReLU(norm), each)
            for norm, each in zip(self.norms, convolved, strict=True)
        ]

    @staticmethod
    def _select(values: Sequence[Tensor], shares: Sequence[Tensor]) -> Tensor:
        if len(values) == 2 and values[0].dtype == shares[0].dtype:
            return torch.lerp(values[1], values[0], shares[0])
        total = values[0] * shares[0]
        for value, share in zip(values[1:], shares[1:], strict=True):
            total = total + value * share
        return total

    def extra_repr(self) -> str:
        """Return channels and branches."""
        return f"{self.in_channels}, {self.out_channels}, branches={len(self.branches)}"


class _NormedReLU(nn.Module):
    """A norm and the ReLU behind it, as a module of rows."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, rows: SparseTensor | Tensor) -> SparseTensor | Tensor:
        """Return `relu(norm(rows))`."""
        if isinstance(rows, SparseTensor):
            return rows.replace(features=normed_relu(self.norm, rows.features))
        return normed_relu(self.norm, rows)


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    # groups of some sixteen channels: the published two are faster in theory alone
    groups = gcd(in_channels, out_channels, max(min(in_channels, out_channels) // 16, 1))
    return SKConv3d(in_channels, out_channels, groups=groups)


FAMILIES = (
    Family(
        number=20,
        key="selective_kernel",
        title="Selective kernel convolution",
        layer=SKConv3d,
        paper="arXiv:1903.06586",
        summary="Two convolutions of different reach side by side; each scan decides, channel by "
        "channel, how much of each it takes.",
        formula="y[n, c] = sum over m of a_m[b, c] U_m[n, c], U_m = relu(norm(conv_m(x))), "
        "a = softmax over m of V_m relu(norm(W mean over scan b of sum of U_m))",
        on_sparse="Branches add 0 for absent neighbours; the mean is over the active sites of a "
        "scan, so equal to the dense one on full grids alone.",
        use_when="Where the size of what is looked for differs from scan to scan.",
        primitives=("rulebook", "cube_rulebook", "conv", "norm_apply", "aggregate"),
        make=_make,
    ),
)
