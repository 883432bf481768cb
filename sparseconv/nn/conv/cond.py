"""CondConv: every scan mixes a kernel of its own from a few experts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.geometry import Triple
from sparseconv.nn.conv._per_item import PerItemConvolution, draw_each, mixed
from sparseconv.nn.conv._sites import Padding
from sparseconv.nn.family import Family
from sparseconv.ops._checks import describe
from sparseconv.tensor.sparse_tensor import SparseTensor


class CondConv3d(PerItemConvolution):
    """Convolve every scan with a sum of experts, weighed by what the scan is like.

    `W[b] = sum over e of a[b, e] W[e]`, `a = sigmoid(R mean(x) + r)`, and the bias likewise; then
    a convolution with `W[b]`. The experts cost parameters, hardly any time: kernels are mixed
    before they are applied. Gates do not add up to 1, so results grow with the number of experts.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, `"same"`, `"valid"`, or `"subm"` to keep the input's
            sites.
        dilation: voxels between taps, an int or three.
        groups: G.
        bias: whether the experts have a bias.
        num_experts: E.
        routing: `"internal"`, a linear map of the layer's own; or `"external"`, gates handed to
            `forward`, such as one set shared by the layers of a block.
        pool: `"active"` or `"volume"`; see `PerItemConvolution`.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Source:
        Yang et al., "CondConv: Conditionally Parameterized Convolutions for Efficient Inference",
        arXiv:1904.04971, section 3.
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
        num_experts: int = 4,
        routing: str = "internal",
        pool: str = "active",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, pool
        )
        if num_experts < 1:
            raise ValueError(complain("num_experts", "an int >= 1", f"{num_experts}"))
        if routing not in ("internal", "external"):
            raise ValueError(complain("routing", "'internal' or 'external'", repr(routing)))
        factory = {"device": device, "dtype": dtype}
        self.num_experts = num_experts
        self.weight = self.kernels(num_experts, **factory)
        self.bias = (
            nn.Parameter(torch.empty(num_experts, out_channels, **factory)) if bias else None
        )
        internal = routing == "internal"
        self.routing = nn.Linear(in_channels, num_experts, **factory) if internal else None
        draw_each(self.weight, self.bias)

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
        routing: Tensor | None = None,  # [B, E]
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].
            routing: gates [B, E] to use instead of the layer's own.

        Returns:
            [M, D], or dense [B, D, X', Y', Z'].

        Raises:
            ValueError: gates are missing or of another shape.
        """
        self.check_input(x)
        size = x.shape[0] if isinstance(x, Tensor) else x.batch_size
        if routing is None:
            if self.routing is None:
                cure = "call layer(x, routing), or make it with routing='internal'"
                raise ValueError(complain("routing", "gates [B, E]", "none", cure))
            routing = self.routing(self.mean(x)).sigmoid()
        elif routing.shape != (size, self.num_experts):
            expected = f"[{size}, {self.num_experts}], a gate per scan and expert"
            raise ValueError(complain("routing", expected, describe(routing)))
        bias = None if self.bias is None else routing @ self.bias
        return self.convolve(x, mixed(routing, self.weight), bias)

    def extra_repr(self) -> str:
        """Return the arguments, and the numbers of experts and of a scan's kernel."""
        return f"{super().extra_repr()}, num_experts={self.num_experts}"


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return CondConv3d(in_channels, out_channels, 3, padding="subm")


FAMILIES = (
    Family(
        number=29,
        key="cond",
        title="CondConv (conditionally parameterised convolution)",
        layer=CondConv3d,
        paper="arXiv:1904.04971",
        summary="Every scan is convolved with a kernel of its own: a sum of a few experts, each "
        "weighed by a sigmoid of the scan's mean.",
        formula="y[n] = sum over taps t of (sum over e of a[b, e] W[e, t]) x[site(n) + offset(t)], "
        "a[b] = sigmoid(R mean of scan b + r)",
        on_sparse="The mean runs over a scan's active sites, so gates do not depend on how much "
        "space is empty; with pool='volume' the layer equals its dense form on the zero-filled "
        "grid. Absent neighbours add 0.",
        use_when="For more capacity at the price of one convolution, where scans differ in kind.",
        primitives=("rulebook", "split_by_item", "aggregate", "conv"),
        make=_make,
    ),
)
