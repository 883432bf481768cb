"""U-Nets for semantic segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from sparseconv._errors import complain
from sparseconv.models.blocks import Maker, ResidualBlock, conv_norm_relu, down, maker, up
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.features import Linear
from sparseconv.nn.sequential import Sequential
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.union import cat


class MinkUNet(nn.Module):
    """Residual U-Net: a stem, some levels down, as many up, and a linear classifier.

    Args:
        in_channels: C, features of a voxel.
        num_classes: D, classes.
        channels: of the stem, then of each level down, then of each level up: an odd number of
            entries, `1 + 2 * levels`.
        blocks: residual blocks of each level.
        stem_kernel: kernel size of the first convolution.
        conv: what convolves in the residual blocks: the short name of a family such as
            `"involution"` (`sparseconv.nn.families` lists them), or a callable from
            `in_channels, out_channels` to a layer that keeps the sites; 3x3x3 submanifold
            convolutions if none is given.

    Source:
        Choy, Gwak, Savarese, "4D Spatio-Temporal ConvNets", arXiv:1904.08755, figure 4 (MinkUNet).

    Example:
        >>> import torch
        >>> coords = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.int32)
        >>> net = MinkUNet(3, 5, channels=(4, 8, 8), blocks=1)
        >>> net(SparseTensor(coords, torch.randn(2, 3))).features.shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: Sequence[int] = (32, 32, 64, 128, 256, 256, 128, 96, 96),
        *,
        blocks: int = 2,
        stem_kernel: int = 3,
        conv: str | Maker | None = None,
    ) -> None:
        super().__init__()
        make = maker(conv)
        if len(channels) % 2 == 0 or len(channels) < 3:
            raise ValueError(
                complain(
                    "channels", "1 + 2 * levels entries (stem, down, up)", f"{tuple(channels)}"
                )
            )
        levels = len(channels) // 2
        stem, downs, ups = channels[0], channels[1 : levels + 1], channels[levels + 1 :]
        self.stem = Sequential(
            conv_norm_relu(SubMConv3d(in_channels, stem, stem_kernel, bias=False), stem),
            conv_norm_relu(SubMConv3d(stem, stem, 3, bias=False), stem),
        )
        self.down, self.encode = nn.ModuleList(), nn.ModuleList()
        width, skips = stem, [stem]
        for wider in downs:
            self.down.append(down(width, width))
            self.encode.append(self._stage(width, wider, blocks, make))
            width = wider
            skips.append(width)
        self.up, self.decode = nn.ModuleList(), nn.ModuleList()
        skips.pop()
        for narrower in ups:
            self.up.append(up(width, narrower))
            self.decode.append(self._stage(narrower + skips.pop(), narrower, blocks, make))
            width = narrower
        self.classify = Linear(width, num_classes)

    @staticmethod
    def _stage(in_channels: int, out_channels: int, blocks: int, make: Maker) -> Sequential:
        widths = [in_channels] + [out_channels] * blocks
        return Sequential(*(ResidualBlock(a, b, make) for a, b in pairwise(widths)))

    def forward(
        self,
        x: SparseTensor,  # [N, C]
    ) -> SparseTensor:  # [N, D]
        """Return a logit per class for every voxel, at the sites of `x`."""
        x = self.stem(x)
        skips = []
        for shrink, encode in zip(self.down, self.encode, strict=True):
            skips.append(x)
            x = encode(shrink(x))
        for grow, decode in zip(self.up, self.decode, strict=True):
            x = decode(cat([grow(x), skips.pop()]))
        return self.classify(x)


class MinkUNetSmall(MinkUNet):
    """The U-Net of the models in the package: four levels, narrow, one block each.

    Args:
        in_channels: C, features of a voxel.
        num_classes: D, classes.
        channels: as in `MinkUNet`.
        blocks: residual blocks of each level.
        conv: as in `MinkUNet`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: Sequence[int] = (16, 24, 32, 48, 64, 48, 32, 24, 24),
        *,
        blocks: int = 1,
        conv: str | Maker | None = None,
    ) -> None:
        super().__init__(in_channels, num_classes, channels, blocks=blocks, conv=conv)
