"""First and second derivatives of every convolution, by features, weight and bias."""

import pytest
import torch

from sparseconv.functional.conv import (
    conv3d,
    conv_transpose3d,
    inverse_conv3d,
    submanifold_conv3d,
)
from sparseconv.geometry import Geometry
from sparseconv.testing.scenes import scene

THREE, DOWN = Geometry.submanifold((1, 2, 3)), Geometry.make(2, 2)
CALLS = {
    "submanifold": (lambda x, w, b, g: submanifold_conv3d(x, w, b, THREE, groups=g), THREE, False),
    "regular": (lambda x, w, b, g: conv3d(x, w, b, DOWN, groups=g), DOWN, False),
    "transposed": (lambda x, w, b, g: conv_transpose3d(x, w, b, DOWN, groups=g), DOWN, True),
    "inverse": (lambda x, w, b, g: inverse_conv3d(x, w, b, groups=g), DOWN, True),
}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", CALLS)
def test_derivatives(backend, name, groups):
    call, geometry, transposed = CALLS[name]
    x = scene("empty_batch_item").tensor(2)
    if name == "inverse":
        x = conv3d(x, torch.randn(2, 2, 2, 2, 2, dtype=torch.float64), None, DOWN)
    shape = (2, 4 // groups) if transposed else (4, 2 // groups)
    weight = torch.randn(*shape, *geometry.size, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    features = x.features.detach().clone().requires_grad_()

    def run(features, weight, bias):
        return call(x.replace(features=features), weight, bias, groups).features

    assert torch.autograd.gradcheck(run, (features, weight, bias))
    assert torch.autograd.gradgradcheck(run, (features, weight, bias), fast_mode=True)


def test_hessian_of_a_convolution_in_its_weight(backend):
    # y is bilinear: the mixed second derivative of features and weight is what they multiply
    x = scene("line").tensor(1)
    weight = torch.randn(1, 1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    features = x.features.detach().requires_grad_()
    y = submanifold_conv3d(x.replace(features=features), weight, None, THREE).features
    (first,) = torch.autograd.grad(y.sum(), weight, create_graph=True)
    (mixed,) = torch.autograd.grad(first.sum(), features)
    book = x.topology.rulebook(x.level, x.level, THREE)
    pairs = torch.zeros(len(x), dtype=torch.float64)
    pairs.index_add_(0, book.in_rows, torch.ones(len(book), dtype=torch.float64))
    torch.testing.assert_close(mixed.flatten(), pairs)
    (twice,) = torch.autograd.grad(
        torch.autograd.grad(y.sum(), weight, create_graph=True)[0].sum(), weight, allow_unused=True
    )
    assert twice is None or not twice.any()


def test_forward_keeps_nothing_alive_but_features_and_weight():
    x = scene("random_sparse").tensor(4)
    weight = torch.randn(4, 4, *THREE.size, dtype=torch.float64, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        submanifold_conv3d(x, weight, None, THREE)
    floats = [t for t in kept if t.is_floating_point()]
    assert len(floats) == 2
    assert any(t.data_ptr() == x.features.data_ptr() for t in floats)
