"""Deformable kernels and deformable taps at once: what is read and what weighs it both move."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseconv.functional.sample import moved_kernel3d
from sparseconv.nn.conv.local_deformable_kernel import LocalDeformKernel3d
from sparseconv.tensor.sparse_tensor import SparseTensor


class DeformKernelConv3d(LocalDeformKernel3d):
    """Convolve each channel with moved taps whose weights every site reads from a larger kernel.

    `y[o, c] = b + sum over taps t of W(q[o, t])[c] x(p[o, t])[c]` with
    `p[o, t] = o * stride - padding + t * dilation + d[o, t]` and
    `q[o, t] = tap t + (scope - kernel_size) / 2 + e[o, t]`. Offsets d, in voxels, and e, in cells
    of the kernel, are predicted by one convolution, `(d, e) = conv_offset(x)`. `x(p)` is trilinear
    between the eight sites around p, and W between the cells of its grid of `scope`.

    `conv_offset` begins at 0: with `scope` = `kernel_size` the layer then is a depthwise
    convolution. It numbers its channels d before e, of each group by group, tap by tap, x, y, z. A
    site that is absent adds 0, as in the dense layer on the zero-filled grid; what lies beyond the
    kernel weighs 0, and `clip` keeps e from it. Taps that wander into empty space read 0 and get
    no gradient. Second derivatives are not offered.

    Args:
        channels: C.
        scope: cells of the kernel per axis, at least `kernel_size`, an int or three.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, `"same"`, `"valid"`, or `"subm"` to keep the input's
            sites.
        dilation: voxels between taps, an int or three.
        rotation_groups: R, a divisor of C: channel c has the offsets of group `c % R`.
        clip: `"scope"` keeps places within the kernel's grid, two numbers keep e between them,
            None keeps neither.
        bias: whether to add a bias.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range; the message names it.

    Source:
        Gao et al., "Deformable Kernels: Adapting Effective Receptive Fields for Object
        Deformation", arXiv:1910.02940. Planar there; the third axis is this library's.
    """

    numbers = 6

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
        return out, self._places(out.features[:, out.features.shape[1] // 2 :])

    def read(
        self,
        x: SparseTensor,  # [N, C]
        weight: Tensor,  # [C, 1, Sx, Sy, Sz]
        out: SparseTensor,  # [M, 6 R K], what was predicted
    ) -> SparseTensor:  # [M, C]
        """Weigh moved taps of the output sites, whose groups of channels are neighbours."""
        heads, start = out.features, self.grid[:, 0]
        if self.ends is not None:
            moved, turned = heads.to(torch.promote_types(heads.dtype, torch.float32)).chunk(2, 1)
            low, high = self.ends.to(turned)
            if self.clip == "scope":
                low, high = low - start.to(turned), high - start.to(turned)
            turned = torch.clamp(turned.unflatten(1, (self.rotation_groups, -1, 3)), low, high)
            heads = torch.cat([moved, turned.flatten(1)], 1)
        parts = self.rotation_groups
        return moved_kernel3d(x, heads, weight, start, self.geometry, out, parts=parts)
