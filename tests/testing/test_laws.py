"""A law that cannot be broken proves nothing: each is shown a layer that breaks it."""

import pytest
import torch

from sparseconv.nn.conv.inverse import SparseInverseConv3d
from sparseconv.nn.conv.regular import SparseConv3d
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing import laws
from sparseconv.testing.scenes import scene

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def tensor(name="random_sparse", channels=3):
    view = scene(name)
    return SparseTensor(view.coords, view.features(channels), None, view.batch_size)


def test_permutation_catches_a_layer_that_counts_rows():
    with pytest.raises(AssertionError):
        laws.permutation(lambda x: x.replace(features=x.features.cumsum(0)), tensor(), **CLOSE)


def test_translation_catches_a_layer_that_reads_coordinates():
    def coord(x):
        return x.replace(features=x.features + x.coords[:, 1:].double())

    with pytest.raises(AssertionError):
        laws.translation(coord, tensor(), (1, 0, 0), **CLOSE)


def test_translation_by_less_than_a_stride_is_no_symmetry():
    layer = SparseConv3d(3, 2, 2, 2, dtype=torch.float64)
    with pytest.raises(AssertionError):
        laws.translation(layer, tensor(), (1, 0, 0), (0.5,) * 3, **CLOSE)


def test_batch_laws_catch_a_layer_that_mixes_scans():
    def centred(x):
        return x.replace(features=x.features - x.features.mean(0))

    with pytest.raises(AssertionError):
        laws.batch_independence(centred, tensor().unbatch(), **CLOSE)
    with pytest.raises(AssertionError, match="another scan"):
        laws.isolation(centred, tensor())


def test_linearity_catches_a_bias():
    layer = SubMConv3d(3, 2, 3, bias=True, dtype=torch.float64)
    with pytest.raises(AssertionError):
        laws.linearity(layer, tensor(), **CLOSE)


def test_adjoint_catches_a_weight_of_another_order():
    down = SparseConv3d(3, 2, 2, 2, bias=False, dtype=torch.float64)
    up = SparseInverseConv3d(2, 3, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        up.weight.copy_(down.weight.flip(2))
    with pytest.raises(AssertionError):
        laws.adjoint(down, up, tensor(), **CLOSE)


def test_same_catches_sites_that_differ():
    x = tensor()
    y = laws.like(x, x.coords + torch.tensor([0, 0, 0, 1], dtype=torch.int32), x.features)
    laws.assert_same(x, x)
    with pytest.raises(AssertionError):
        laws.assert_same(x, y)
