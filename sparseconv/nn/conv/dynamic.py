"""Dynamic convolution: kernels of a scan mixed by a softmax whose temperature is lowered."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.geometry import Triple
from sparseconv.nn.conv._per_item import Annealed, PerItemConvolution, draw_each, mixed
from sparseconv.nn.conv._sites import Padding
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor


class DynamicConv3d(PerItemConvolution):
    """Convolve every scan with a mean of kernels, weighed by attention over them.

    `W[b] = sum over k of p[b, k] W[k]`, `p = softmax(fc2(relu(fc1(mean(x)))) / temperature)`, and
    the bias likewise. A high temperature makes all kernels learn at first; the training loop
    lowers it to 1 with `set_temperature`, as over the first ten epochs in the paper.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, `"same"`, `"valid"`, or `"subm"` to keep the input's
            sites.
        dilation: voxels between taps, an int or three.
        groups: G.
        bias: whether the kernels have a bias.
        num_kernels: how many are mixed.
        reduction: the attention has max(C // reduction, 4) hidden channels.
        temperature: of the softmax at first.
        pool: `"active"` or `"volume"`; see `PerItemConvolution`.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Source:
        Chen et al., "Dynamic Convolution: Attention over Convolution Kernels", arXiv:1912.03458.
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
        bias: bool = True,
        num_kernels: int = 4,
        reduction: int = 4,
        temperature: float = 30.0,
        pool: str = "active",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, pool
        )
        for name, value in (("num_kernels", num_kernels), ("reduction", reduction)):
            if value < 1:
                raise ValueError(complain(name, "an int >= 1", f"{value}"))
        factory = {"device": device, "dtype": dtype}
        self.num_kernels = num_kernels
        self.weight = self.kernels(num_kernels, **factory)
        self.bias = (
            nn.Parameter(torch.empty(num_kernels, out_channels, **factory)) if bias else None
        )
        hidden = max(in_channels // reduction, 4)
        self.fc1 = nn.Linear(in_channels, hidden, bias=False, **factory)
        self.fc2 = nn.Linear(hidden, num_kernels, **factory)
        self.temperature = Annealed(temperature, least=1e-3)
        draw_each(self.weight, self.bias)
        for fc in (self.fc1, self.fc2):
            nn.init.kaiming_normal_(fc.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc2.bias)

    def set_temperature(self, value: float) -> None:
        """Set the softmax's temperature, 1 at the end of training.

        Raises:
            ValueError: it is not above 0.
        """
        self.temperature.set(value)

    def attention(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> Tensor:  # [B, kernels]
        """Return the share of each kernel in each scan's, which add up to 1."""
        logits = self.fc2(self.fc1(self.mean(x)).relu())
        return (logits / self.temperature.value.to(logits.dtype)).softmax(1)

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Return [M, D], or dense [B, D, X', Y', Z']."""
        self.check_input(x)
        shares = self.attention(x)
        bias = None if self.bias is None else shares.to(self.bias.dtype) @ self.bias
        return self.convolve(x, mixed(shares.to(self.weight.dtype), self.weight), bias)

    def extra_repr(self) -> str:
        """Return the arguments, and the numbers of kernels and of a scan's kernel."""
        return f"{super().extra_repr()}, num_kernels={self.num_kernels}"


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return DynamicConv3d(in_channels, out_channels, 3, padding="subm")


FAMILIES = (
    Family(
        number=30,
        key="dynamic",
        title="Dynamic convolution",
        layer=DynamicConv3d,
        paper="arXiv:1912.03458",
        summary="Every scan is convolved with a kernel of its own: a mean of a few, weighed by "
        "attention over them.",
        formula="y[n] = sum over taps t of (sum over k of p[b, k] W[k, t]) x[site(n) + offset(t)], "
        "p[b] = softmax(fc2(relu(fc1(mean of scan b))) / temperature)",
        on_sparse="The mean runs over a scan's active sites, so the shares do not depend on how "
        "much space is empty; with pool='volume' the layer equals its dense form on the "
        "zero-filled grid. Absent neighbours add 0.",
        use_when="As CondConv, where results shall keep their scale whatever the number of "
        "kernels; the temperature is then yours to lower.",
        primitives=("rulebook", "split_by_item", "aggregate", "conv"),
        make=_make,
    ),
)
