"""The convolution that predicts offsets: it begins as nothing."""

from __future__ import annotations

import torch

from sparseconv.functional.conv import conv3d, submanifold_conv3d
from sparseconv.nn.conv._sites import SitedConvolution
from sparseconv.tensor.sparse_tensor import SparseTensor


class Heads(SitedConvolution):
    """A convolution whose parameters begin at 0, onto the sites of the layer it predicts for."""

    def reset_parameters(self) -> None:
        """Set weight and bias to 0."""
        with torch.no_grad():
            self.weight.zero_()
            self.bias.zero_()

    def onto(
        self,
        x: SparseTensor,  # [N, C]
        sites: SparseTensor | None,
    ) -> SparseTensor:  # [M, D]
        """Convolve onto the sites of another tensor, or those the padding asks for."""
        if self.keeps_sites and sites is None:
            return submanifold_conv3d(x, self.weight, self.bias, self.geometry)
        return conv3d(x, self.weight, self.bias, self.geometry, sites=sites)
