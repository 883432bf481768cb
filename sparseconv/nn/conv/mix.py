"""Mixed convolution: kernels of several sizes, each over channels of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.conv import by_tap, over_rulebook
from sparseconv.functional.parents import parents
from sparseconv.geometry import Triple
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.conv._drop_in import with_channels
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor

PARTITIONS = ("equal", "exp")


def partition_channels(channels: int, parts: int, partition: str) -> list[int]:
    """Cut channels into parts.

    Args:
        channels: C.
        parts: how many.
        partition: `"equal"`: C // parts each, the first taking what is left over; `"exp"`:
            part i takes C // 2^(i + 1), at least 1, the first taking what is left over.

    Returns:
        Channels of each part.

    Raises:
        ValueError: no such partition, or fewer channels than parts.
    """
    if partition not in PARTITIONS:
        raise ValueError(complain("partition", "'equal' or 'exp'", repr(partition)))
    if partition == "equal":
        sizes = [channels // parts] * parts
    else:
        sizes = [max(channels >> (i + 1), 1) for i in range(parts)]
    sizes[0] = channels - sum(sizes[1:])
    if min(sizes) < 1:
        expected = f"at least {parts}, one per kernel size"
        raise ValueError(complain("channels", expected, f"{channels}", "give fewer kernel sizes"))
    return sizes


class MixConv3d(ChecksInput, nn.Module):
    """Convolve parts of the channels with kernels of different sizes.

    `y[o, c] = b[c] + sum over taps t of kernel i of W_i[c, t] x[site(o) s + offset_i(t), c]` for
    the channels c of part i. Small details and wide surroundings for little: a 5^3 kernel costs
    more than a 3^3 one only where there are neighbours. With a stride s, outputs are the blocks of
    s^3 voxels that hold a site, the same for every part.

    Args:
        channels: C.
        kernel_sizes: of each part.
        partition: `"equal"` parts or `"exp"`, each half of the one before it.
        dilated: reach as far as kernel k does with 3 taps an axis, (k - 1) / 2 voxels apart (with
            stride 1).
        stride: voxels, an int or three.
        bias: whether to add a bias.
        depthwise: whether each channel reads itself alone; else all of its part.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        ValueError: an argument is out of range.

    Source:
        Tan and Le, "MixConv: Mixed Depthwise Convolutional Kernels", arXiv:1907.09595, section 3,
        of images; here over voxels.
    """

    def __init__(
        self,
        channels: int,
        kernel_sizes: Sequence[int] = (3, 5, 7),
        partition: str = "equal",
        dilated: bool = False,
        stride: int | Triple = 1,
        bias: bool = True,
        depthwise: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        kernels = list(kernel_sizes)
        if not kernels or any(not isinstance(k, int) or k < 1 or k % 2 == 0 for k in kernels):
            expected = "odd ints, one per part"
            raise ValueError(complain("kernel_sizes", expected, repr(kernel_sizes)))
        self.in_channels = self.channels = channels
        self.sizes = partition_channels(channels, len(kernels), partition)
        self.parts = nn.ModuleList()
        for size, kernel in zip(self.sizes, kernels, strict=True):
            spread = 1
            if dilated and stride in (1, (1, 1, 1)) and kernel > 3:
                spread, kernel = (kernel - 1) // 2, 3
            self.parts.append(
                Convolution(
                    size,
                    size,
                    kernel,
                    stride,
                    spread * (kernel // 2),
                    spread,
                    size if depthwise else 1,
                    bias,
                    device=device,
                    dtype=dtype,
                )
            )

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Return [M, C], or dense [B, C, X', Y', Z'] with every extent n going to ceil(n / s)."""
        self.check_input(x)
        if isinstance(x, Tensor):
            split = zip(self.parts, x.split(self.sizes, 1), strict=True)
            return torch.cat([part.dense_conv3d(each) for part, each in split], 1)
        stride = self.parts[0].stride
        target = x.level if stride == (1, 1, 1) else parents(x, stride)
        # one split, whose gradient is one concatenation
        done = [
            self._convolve(part, x.replace(features=each), target)
            for part, each in zip(self.parts, x.features.split(self.sizes, 1), strict=True)
        ]
        features = done[0] if len(done) == 1 else torch.cat(done, 1)
        return SparseTensor.at(x.topology, target, features)

    @staticmethod
    def _convolve(part: Convolution, x: SparseTensor, target: str) -> Tensor:
        book = x.topology.rulebook(x.level, target, part.geometry)
        y = over_rulebook(x, by_tap(part.weight), part.bias, book, x.topology, target, part.groups)
        return y.features

    def extra_repr(self) -> str:
        """Return channels of each part."""
        return f"{self.channels}, parts={self.sizes}"


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return with_channels(MixConv3d(in_channels, (3, 5)), in_channels, out_channels)


FAMILIES = (
    Family(
        number=19,
        key="mix",
        title="Mixed convolution (MixConv)",
        layer=MixConv3d,
        paper="arXiv:1907.09595",
        summary="Depthwise convolution whose channels have kernels of different sizes.",
        formula="y[n, c] = b[c] + sum over taps t of kernel i of W_i[c, t] x[site(n) + "
        "offset_i(t), c] for the channels c of part i",
        on_sparse="Absent neighbours add 0, as on the zero-filled grid. A large kernel costs what "
        "there is to read, not k^3. In a net: kernels 3 and 5.",
        use_when="To see details and surroundings at once where depthwise layers are used; a "
        "pointwise layer behind it mixes the channels.",
        primitives=("rulebook", "conv"),
        make=_make,
    ),
)
