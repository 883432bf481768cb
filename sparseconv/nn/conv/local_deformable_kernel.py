"""Local deformable kernel: the data stay, every site reads the kernel at places of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.deform_kernel import deform_kernel3d
from sparseconv.functional.full_grid import on_full_grid
from sparseconv.geometry import Geometry, triple
from sparseconv.nn.conv._heads import Heads
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv._sites import Padding
from sparseconv.tensor.sparse_tensor import SparseTensor

Clip = str | tuple[float, float] | None


class LocalDeformKernel3d(ChecksInput, nn.Module):
    """Convolve each channel with taps whose weights every site reads from a larger kernel.

    `y[o, c] = b + sum over taps t of W(q[o, t])[c] x[o * stride - padding + t * dilation, c]`, the
    kernel W being a grid of `scope` cells, read trilinearly and 0 beyond it, at
    `q[o, t] = tap t + (scope - kernel_size) / 2 + d[o, t]` with offsets `d = conv_offset(x)` in
    cells. Where deformable convolution moves what is read, this moves what it is weighed by: the
    receptive field changes its shape within the taps, and nothing is read off the lattice.

    `conv_offset` begins at 0: with `scope` = `kernel_size` the layer then is a depthwise
    convolution; with one cell more along each axis, a depthwise convolution whose every weight is
    the mean of eight cells. A site that is absent adds 0, as in the dense layer on the zero-filled
    grid. Places beyond the grid weigh 0 and get no gradient; `clip` keeps them in.
    Second derivatives are not offered.

    Args:
        channels: C.
        scope: cells of the kernel per axis, at least `kernel_size`, an int or three.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, `"same"`, `"valid"`, or `"subm"` to keep the input's
            sites.
        dilation: voxels between taps, an int or three.
        rotation_groups: R, a divisor of C: channel c reads its kernel where group `c % R` does, as
            in the published layer.
        clip: `"scope"` keeps places within the grid, two numbers keep offsets between them, None
            keeps neither.
        bias: whether to add a bias.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range; the message names it.

    Source:
        Gao et al., "Deformable Kernels: Adapting Effective Receptive Fields for Object
        Deformation", arXiv:1910.02940. Planar there; the third axis is this library's.
    """

    # that are predicted for each tap and group
    numbers = 3

    def __init__(
        self,
        channels: int,
        scope: int | Sequence[int] = 4,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        padding: Padding = "subm",
        dilation: int | Sequence[int] = 1,
        rotation_groups: int = 1,
        clip: Clip = None,
        bias: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        groups = rotation_groups
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(complain("channels", "an int >= 1", repr(channels)))
        if not isinstance(groups, int) or groups < 1 or channels % groups:
            expected = f"a divisor of channels {channels}"
            raise ValueError(complain("rotation_groups", expected, repr(groups)))
        window = triple("kernel_size", kernel_size, least=1)
        size = triple("scope", scope, least=1)
        if any(s < k for s, k in zip(size, window, strict=True)):
            raise ValueError(complain("scope", f"at least the kernel size {window}", f"{size}"))
        taps = math.prod(window)
        shape = window, stride, padding, dilation
        self.conv_offset = Heads(channels, self.numbers * groups * taps, *shape, **factory)
        self.in_channels = self.channels = channels
        self.scope, self.rotation_groups, self.clip = size, groups, clip
        self.weight = nn.Parameter(torch.empty(channels, 1, *size, **factory))
        bound = 1 / math.sqrt(taps)
        nn.init.uniform_(self.weight, -bound, bound)
        if bias:
            self.bias = nn.Parameter(torch.zeros(channels, **factory))
        else:
            self.register_parameter("bias", None)
        # tensors, for a traced graph takes every number of a module for one that may change
        first = torch.tensor([(s - k) / 2 for s, k in zip(size, window, strict=True)])
        grid = torch.tensor(Geometry(window).offsets).reshape(taps, 1, 3) + first
        self.register_buffer("grid", grid.to(**factory), persistent=False)
        ends = _ends(clip, size)
        ends = None if ends is None else torch.tensor(ends, **factory)
        self.register_buffer("ends", ends, persistent=False)

    @property
    def geometry(self) -> Geometry:
        """Of the neighbours."""
        return self.conv_offset.geometry

    def places(
        self,
        x: SparseTensor,  # [N, C]
        sites: SparseTensor | None = None,
    ) -> tuple[SparseTensor, Tensor]:
        """Predict where every site reads the kernel.

        Args:
            x: [N, C].
            sites: as for `forward`.

        Returns:
            A tensor at the output sites; places [M, K, R, 3] in cells, float32 or float64.
        """
        out = self.conv_offset.onto(x, sites)
        return out, self._places(out.features)

    def _places(
        self,
        heads: Tensor,  # [M, 3 R K]
    ) -> Tensor:  # [M, K, R, 3]
        values = heads.to(torch.promote_types(heads.dtype, torch.float32))
        offsets = values.reshape(-1, self.rotation_groups, self.geometry.taps, 3).transpose(1, 2)
        ends = None if self.ends is None else self.ends.to(values)
        if ends is not None and self.clip != "scope":
            offsets = torch.clamp(offsets, ends[0], ends[1])
        places = self.grid.to(values) + offsets
        if self.clip == "scope":
            places = torch.clamp(places, ends[0], ends[1])
        return places

    def read(
        self,
        x: SparseTensor,  # [N, C]
        weight: Tensor,  # [C, 1, Sx, Sy, Sz]
        out: SparseTensor,  # [M, .], what was predicted
    ) -> SparseTensor:  # [M, C]
        """Weigh the neighbours of the output sites, whose groups of channels are neighbours."""
        return deform_kernel3d(x, weight, self._places(out.features), self.geometry, out)

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
        sites: SparseTensor | None = None,
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].
            sites: a tensor whose sites the result shall have (sparse input only).

        Returns:
            [M, C], or dense [B, C, X', Y', Z'].
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            return on_full_grid(self, x)
        out = self.conv_offset.onto(x, sites)
        groups, weight = self.rotation_groups, self.weight
        # the op's groups are neighbours, the published ones lie R channels apart
        if groups > 1:
            x = x.replace(features=x.features.unflatten(1, (-1, groups)).mT.flatten(1))
            weight = weight.unflatten(0, (-1, groups)).transpose(0, 1).flatten(0, 1)
        y = self.read(x, weight, out)
        features = y.features
        if groups > 1:
            features = features.unflatten(1, (groups, -1)).mT.flatten(1)
        if self.bias is not None:
            features = features + self.bias.to(features.dtype)
        return y.replace(features=features)

    def extra_repr(self) -> str:
        """Return the arguments."""
        text = f"{self.channels}, scope={self.scope}, kernel_size={self.geometry.size}"
        return text + f", rotation_groups={self.rotation_groups}, clip={self.clip!r}"


def _ends(clip: Clip, scope: tuple[int, int, int]) -> list | None:
    """Return lowest and highest place, or offset.

    Raises:
        ValueError: neither `"scope"` nor two numbers in order nor None.
    """
    if clip is None:
        return None
    if clip == "scope":
        return [[0.0, 0.0, 0.0], [float(s - 1) for s in scope]]
    if isinstance(clip, str) or len(clip) != 2 or not clip[0] < clip[1]:
        raise ValueError(complain("clip", "'scope', two rising numbers or None", repr(clip)))
    return [[float(value)] * 3 for value in clip]
