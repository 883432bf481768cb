"""Regular sparse convolution: output sites are all those whose kernel meets an active site."""

from __future__ import annotations

from torch import Tensor, nn

from sparseconv.functional.conv import conv3d
from sparseconv.functional.normed import Norm
from sparseconv.geometry import Triple
from sparseconv.nn.conv._base import Convolution
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor


class SparseConv3d(Convolution):
    """Convolve onto every site whose kernel meets an active site; with a stride, downsample.

    `y[o] = b + sum over taps i of W[i] x[o * stride - padding + i * dilation]`. Equals
    `torch.nn.Conv3d` of the zero-filled grid at the output sites. Kernel 2 with stride 2 never
    adds sites; kernel 3 with stride 1 may add up to 27 a site. The arguments are those of
    `torch.nn.Conv3d`; see `Convolution`.

    Source:
        Graham, Engelcke, van der Maaten, arXiv:1711.10275, section 3 (SC); sizes as in Dumoulin
        and Visin, arXiv:1603.07285.
    """

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
        sites: SparseTensor | None = None,
        *,
        norm: Norm | None = None,
        add: SparseTensor | Tensor | None = None,
        relu: bool = False,
    ) -> SparseTensor | Tensor:
        """Convolve.

        Args:
            x: sparse [N, C], or dense [B, C, X, Y, Z].
            sites: a tensor whose sites the result shall have (sparse input only).
            norm: normalises the result (sparse input only).
            add: added to the result, which has its shape.
            relu: whether to clip the sum below at 0. Without gradients neither takes a pass of its
                own on sparse input.

        Returns:
            [M, D], or dense [B, D, X', Y', Z'].
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            return self.finish_dense(self.dense_conv3d(x), add, relu)
        return conv3d(
            x,
            self.weight,
            self.bias,
            self.geometry,
            groups=self.groups,
            sites=sites,
            norm=norm,
            add=None if add is None else add.features,
            relu=relu,
        )


class _AtInputSites(nn.Module):
    """The regular convolution whose result is read at the sites of its input."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = SparseConv3d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: SparseTensor | Tensor) -> SparseTensor | Tensor:
        return self.conv(x, x) if isinstance(x, SparseTensor) else self.conv(x)


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return _AtInputSites(in_channels, out_channels)


FAMILIES = (
    Family(
        number=1,
        key="sparse",
        title="Convolution (regular, strided)",
        layer=SparseConv3d,
        paper="arXiv:1603.07285, arXiv:1711.10275",
        summary="Weighs and sums the active sites under a kernel, for every place where the "
        "kernel meets one.",
        formula="y[o] = b + sum over taps t of W[t] x[o * stride - padding + t * dilation]",
        on_sparse="Absent neighbours add 0, so the values are those of the dense layer on the "
        "zero-filled grid; but the set of active sites grows where the kernel overlaps, up to 27 "
        "times for kernel 3 and stride 1. As a drop-in here it is read at the input's own sites.",
        use_when="To go to a coarser lattice (kernel 2, stride 2), or where new sites are wanted.",
        primitives=("rulebook", "conv"),
        make=_make,
    ),
)
