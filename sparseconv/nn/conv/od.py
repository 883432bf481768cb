"""ODConv: attention along all four axes of a kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.geometry import Triple
from sparseconv.nn.conv._per_item import Annealed, PerItemConvolution, Trunk, mixed
from sparseconv.nn.conv._sites import Padding
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor


class ODConv3d(PerItemConvolution):
    """Convolve every scan with kernels gated along all their axes: taps, inputs, outputs, kernels.

    `W[b, t, c, d] = s[b, t] i[b, c] f[b, d] sum over k of p[b, k] W[k, t, c, d]`, with sigmoids s,
    i, f and a softmax p of linear maps of `relu(norm(fc(mean(x))))`, all over the temperature.
    The gates of taps, inputs and outputs are shared by the kernels, as in the published code.
    Where all maps are zero the result is an eighth of the mean kernel's. Gates are folded into the
    kernel, so that they take no pass over the sites.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, `"same"`, `"valid"`, or `"subm"` to keep the input's
            sites.
        dilation: voxels between taps, an int or three.
        groups: G.
        reduction: the gates have max(int(C * reduction), min_channel) hidden channels.
        kernel_num: kernels mixed; 1 for none, without a softmax.
        min_channel: fewest hidden channels.
        norm: `"batch"` as published, or `"layer"`, which trains on one scan too.
        pool: `"active"` or `"volume"`; see `PerItemConvolution`.
        bias: whether to add a bias, which nothing gates.
        temperature: of all gates at first; the published training lowers it from 30 to 1 over ten
            epochs with `set_temperature`.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Source:
        Li, Zhou, Yao, "Omni-Dimensional Dynamic Convolution", ICLR 2022, arXiv:2209.07947.
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
        reduction: float = 1 / 16,
        kernel_num: int = 4,
        min_channel: int = 16,
        norm: str = "batch",
        pool: str = "active",
        bias: bool = False,
        temperature: float = 1.0,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, pool
        )
        if kernel_num < 1:
            raise ValueError(complain("kernel_num", "an int >= 1", f"{kernel_num}"))
        factory = {"device": device, "dtype": dtype}
        self.kernel_num = kernel_num
        self.weight = self.kernels(kernel_num, **factory)
        self.bias = nn.Parameter(torch.zeros(out_channels, **factory)) if bias else None
        hidden = max(int(in_channels * reduction), min_channel)
        self.trunk = Trunk(in_channels, hidden, norm, **factory)
        taps, depthwise = self.geometry.taps, in_channels == out_channels == groups

        def head(width: int, wanted: bool) -> nn.Linear | None:
            return nn.Linear(hidden, width, **factory) if wanted else None

        self.channel_fc = head(in_channels, True)
        self.filter_fc = head(out_channels, not depthwise)
        self.spatial_fc = head(taps, taps > 1)
        self.kernel_fc = head(kernel_num, kernel_num > 1)
        self.temperature = Annealed(temperature, least=1e-3)
        # of every kernel by itself, groups not counted, as published
        nn.init.normal_(self.weight, std=(2 / (taps * out_channels)) ** 0.5)
        for fc in (self.channel_fc, self.filter_fc, self.spatial_fc, self.kernel_fc):
            if fc is not None:
                nn.init.kaiming_normal_(fc.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(fc.bias)

    def set_temperature(self, value: float) -> None:
        """Set the temperature of all gates, 1 at the end of training.

        Raises:
            ValueError: it is not above 0.
        """
        self.temperature.set(value)

    def kernel_of(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> Tensor:  # [B, K, C / G, D]
        """Return the kernel of every scan, all gates in it."""
        hidden = self.trunk(self.mean(x))
        temperature = self.temperature.value.to(hidden.dtype)
        size, groups = hidden.shape[0], self.groups
        if self.kernel_fc is None:
            shares = hidden.new_ones(size, 1)
        else:
            shares = (self.kernel_fc(hidden) / temperature).softmax(1)
        weight = mixed(shares.to(self.weight.dtype), self.weight)
        gate = (self.channel_fc(hidden) / temperature).sigmoid()
        # input c is row c mod C / G of the columns of its group
        gate = gate.reshape(size, groups, -1).transpose(1, 2)[..., None]
        if self.filter_fc is not None:
            outer = (self.filter_fc(hidden) / temperature).sigmoid()
            gate = gate * outer.reshape(size, 1, groups, -1)
        else:
            gate = gate.expand(-1, -1, -1, self.out_channels // groups)
        weight = weight * gate.flatten(2)[:, None]
        if self.spatial_fc is not None:
            weight = weight * (self.spatial_fc(hidden) / temperature).sigmoid()[..., None, None]
        return weight

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Return [M, D], or dense [B, D, X', Y', Z'].

        Raises:
            ValueError: one scan is to be trained on with `norm="batch"`.
        """
        self.check_input(x)
        weight = self.kernel_of(x)
        bias = None if self.bias is None else self.bias.expand(weight.shape[0], -1)
        return self.convolve(x, weight, bias)

    def extra_repr(self) -> str:
        """Return the arguments, and the numbers of kernels and of a scan's kernel."""
        return f"{super().extra_repr()}, kernel_num={self.kernel_num}"


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return ODConv3d(in_channels, out_channels, 3, padding="subm", norm="layer", bias=True)


FAMILIES = (
    Family(
        number=31,
        key="od",
        title="ODConv (omni-dimensional dynamic convolution)",
        layer=ODConv3d,
        paper="arXiv:2209.07947",
        summary="Every scan is convolved with a kernel of its own, gated along all axes: taps, "
        "inputs, outputs, and which of a few kernels.",
        formula="y[n, d] = f[b, d] sum over taps t, c of s[b, t] i[b, c] (sum over k of p[b, k] "
        "W[k, t, c, d]) x[site(n) + offset(t), c], gates from the mean of scan b",
        on_sparse="The mean runs over a scan's active sites, so gates do not depend on how much "
        "space is empty; with pool='volume' the layer equals its dense form on the zero-filled "
        "grid. Absent neighbours add 0.",
        use_when="As dynamic convolution, with finer gates; train batches of one scan with "
        "norm='layer'.",
        primitives=("rulebook", "split_by_item", "aggregate", "conv"),
        make=_make,
    ),
)
