"""What a layer refuses, and in which words."""

import pytest
import torch

from sparseconv import nn
from sparseconv.testing.scenes import scene

X = scene("random_sparse").tensor(4, torch.float32)
COARSE = nn.SparseConv3d(4, 4, 2, 2)(X)

CALLS = {
    "channels": (
        lambda: nn.SubMConv3d(3, 2, 3)(X),
        ValueError,
        "3 channels, found 4.*in_channels=4",
    ),
    "dense channels": (
        lambda: nn.SparseConv3d(3, 2, 3)(torch.ones(1, 4, 2, 2, 2)),
        ValueError,
        "3 channels, found 4",
    ),
    "no tensor": (lambda: nn.SubMConv3d(3, 2, 3)([1]), TypeError, "SparseTensor.*found list"),
    "features alone": (
        lambda: nn.SubMConv3d(4, 2, 3)(X.features),
        ValueError,
        r"dense \[B, C, X, Y, Z\], found a tensor \[144, 4\]",
    ),
    "dtype": (
        lambda: nn.SubMConv3d(4, 2, 3, dtype=torch.float64)(X),
        TypeError,
        "weight: expected float32.*found float64",
    ),
    "groups": (lambda: nn.SubMConv3d(4, 6, 3, groups=4), ValueError, "groups: expected a divisor"),
    "no groups": (lambda: nn.SubMConv3d(4, 6, 3, groups=0), ValueError, "groups: expected"),
    "kernel": (lambda: nn.SubMConv3d(4, 6, 0), ValueError, "kernel_size: expected values >= 1"),
    "two axes": (lambda: nn.SparseConv3d(4, 6, (3, 3)), TypeError, "kernel_size: expected an int"),
    "float kernel": (lambda: nn.SparseConv3d(4, 6, 3.0), TypeError, "kernel_size"),
    "stride": (lambda: nn.SparseConv3d(4, 6, 3, 0), ValueError, "stride: expected values >= 1"),
    "padding": (lambda: nn.SparseConv3d(4, 6, 3, 1, -1), ValueError, "padding: expected values"),
    "padding word": (lambda: nn.SparseConv3d(4, 6, 3, 1, "full"), ValueError, "padding: expected"),
    "same with stride": (
        lambda: nn.SparseConv3d(4, 6, 3, 2, "same"),
        ValueError,
        "padding: expected a number where stride is not 1.*give the padding",
    ),
    "submanifold stride": (lambda: nn.SubMConv3d(4, 6, 3, stride=2), TypeError, "stride"),
    "submanifold padding": (lambda: nn.SubMConv3d(4, 6, 3, padding=1), TypeError, "padding"),
    "channels of none": (lambda: nn.SubMConv3d(0, 6, 3), ValueError, "in_channels: expected"),
    "output padding": (
        lambda: nn.SparseConvTranspose3d(4, 6, 3, 2, 0, 2),
        ValueError,
        "output_padding: expected less than stride or dilation",
    ),
    "inverse of nothing": (
        lambda: nn.SparseInverseConv3d(4, 2, 2)(X),
        ValueError,
        "made by a strided convolution.*SparseConvTranspose3d",
    ),
    "inverse of another kernel": (
        lambda: nn.SparseInverseConv3d(4, 2, 3)(COARSE),
        ValueError,
        r"kernel_size: expected \(2, 2, 2\)",
    ),
    "sites of another stride": (
        lambda: nn.SparseConv3d(4, 2, 3)(X, sites=COARSE),
        ValueError,
        "sites: expected stride",
    ),
    "transposed sites": (
        lambda: nn.SparseConvTranspose3d(4, 2, 3, 2)(X, sites=X),
        ValueError,
        "sites: expected",
    ),
    "rulebook of another kernel": (
        lambda: nn.SubMConv3d(4, 2, 3)(X, rulebook=nn_rulebook(1)),
        ValueError,
        "segments: expected 28 entries",
    ),
    "points": (
        lambda: nn.Interpolate()(X, torch.zeros(3, 3)),
        ValueError,
        r"points: expected shape \[Q, 4\]",
    ),
    "whole points": (
        lambda: nn.Interpolate()(X, torch.zeros(3, 4).int()),
        TypeError,
        "points: expected a floating",
    ),
    "mode": (lambda: nn.Interpolate("cubic")(X, torch.zeros(3, 4)), ValueError, "mode: expected"),
}


def nn_rulebook(kernel):
    layer = nn.SubMConv3d(4, 2, kernel)
    return X.topology.rulebook(X.level, X.level, layer.geometry)


@pytest.mark.parametrize("name", CALLS)
def test_refusal(name):
    call, error, words = CALLS[name]
    with pytest.raises(error, match=words):
        call()


def test_a_rulebook_of_other_sites_is_refused(backend):
    other = scene("full_cube").tensor(4, torch.float32)
    small = scene("one_voxel").tensor(4, torch.float32)
    layer = nn.SubMConv3d(4, 2, 3)
    book = other.topology.rulebook(other.level, other.level, layer.geometry)
    with pytest.raises((ValueError, IndexError)):
        layer(small, rulebook=book)
