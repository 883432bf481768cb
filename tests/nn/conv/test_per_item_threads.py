"""Kernels of their own come out the same with every number of threads, gradients too."""

import pytest
import torch

import sparseconv as sc
from sparseconv.testing.scenes import room

KEYS = ("cond", "dynamic", "od", "kernel_warehouse", "deformable_kernel", "attention_augmented")


@pytest.mark.parametrize("key", KEYS)
def test_every_number_of_threads(key):
    coords = room(800)
    coords[::3, 0] = 1
    features = torch.randn(len(coords), 32)
    layer = sc.nn.family(key).make(32, 32, None)
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        x = sc.SparseTensor(coords, features.clone().requires_grad_(), batch_size=2)
        y = layer(x).features
        found.append((y, *torch.autograd.grad(y.square().sum(), (x.features, *layer.parameters()))))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
