"""Gradients of a convolution and its norm: in one op, and of ops that have gradients themselves."""

import pytest
import torch

from sparseconv.ops.conv_norm import conv_norm
from sparseconv.testing.sample import CASES, pairs_of


@pytest.fixture
def ran(monkeypatch):
    """Names of the ops that were asked for, in order."""
    import sparseconv.ops.conv as conv_ops
    import sparseconv.ops.conv_norm as both
    import sparseconv.ops.norm as norm_ops

    seen = []

    def watched(name, op):
        def call(*args):
            seen.append(name)
            return op(*args)

        return call

    for module, name in (
        (both, "_conv_norm_grad"),
        (norm_ops, "_norm_grad"),
        (conv_ops, "_conv_grad_weight"),
    ):
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    return seen


@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
@pytest.mark.parametrize("added", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("label", [label for label in CASES if "empty" not in label])
def test_both_ways_give_the_same_gradients(backend, ran, label, groups, added, relu):
    rng = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    name, *geometry = CASES[label]
    onto_itself = label == "submanifold"
    *book, n, m = pairs_of(name, *geometry, onto_itself=onto_itself)
    wanted = [normal(n, 4), normal(len(book[2]) - 1, 4 // groups, 6), normal(6), normal(6)]
    if added:
        wanted.append(normal(m, 6))
    for given in wanted:
        given.requires_grad_()
    features, weight, scale, shift, *residual = wanted
    y, _, _ = conv_norm(
        features,
        weight,
        None,
        *book,
        m,
        groups,
        symmetric=onto_itself,
        scale=scale,
        shift=shift,
        residual=residual[0] if added else None,
        relu=relu,
    )
    grad = normal(m, 6)
    once = torch.autograd.grad(y, wanted, grad, retain_graph=True)
    assert ran == ["_conv_norm_grad"]
    ran.clear()
    again = torch.autograd.grad(y, wanted, grad, create_graph=True)
    assert ran == ["_norm_grad", "_conv_grad_weight"]
    for a, b in zip(once, again, strict=True):
        torch.testing.assert_close(a, b.detach())


def test_what_is_not_wanted_is_not_made(backend, ran):
    name, *geometry = CASES["submanifold"]
    *book, n, m = pairs_of(name, *geometry, onto_itself=True)
    weight = torch.randn(len(book[2]) - 1, 4, 6, requires_grad=True)
    features = torch.randn(n, 4)
    y, _, _ = conv_norm(features, weight, None, *book, m, symmetric=True)
    y.sum().backward()
    assert ran == ["_conv_norm_grad"]
    assert features.grad is None and weight.grad.shape == weight.shape


def test_statistics_and_bias_take_the_long_way(backend, ran):
    name, *geometry = CASES["submanifold"]
    *book, n, m = pairs_of(name, *geometry, onto_itself=True)
    features = torch.randn(n, 4, requires_grad=True)
    weight, bias = torch.randn(len(book[2]) - 1, 4, 6), torch.randn(6, requires_grad=True)
    y, mean, var = conv_norm(features, weight, bias, *book, m, symmetric=True)
    (y.sum() + mean.sum() + var.sum()).backward()
    assert "_conv_norm_grad" not in ran
    # the mean moves with the bias, the rest does not
    torch.testing.assert_close(bias.grad, torch.ones(6), atol=1e-3, rtol=0)
