"""Invertible 1x1x1 convolution: the way back, and determinants against the whole Jacobian."""

import pytest
import torch

from sparseconv import nn
from sparseconv.testing import laws
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

KINDS = ["full", "lu"]


def drawn(kind, channels=4, dtype=torch.float64, **more):
    """A layer far from a rotation."""
    layer = nn.InvConv1x1(channels, kind, dtype=dtype, **more)
    layer.set_matrix(torch.randn(channels, channels).double() + torch.eye(channels))
    return layer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "one_voxel", "empty"])
def test_there_and_back(backend, kind, name):
    x = scene(name).tensor(4)
    layer = drawn(kind)
    z, forth = layer(x)
    back, returned = layer.inverse(z)
    torch.testing.assert_close(back.features, x.features, **tolerance(torch.float64, "formula"))
    torch.testing.assert_close(forth + returned, torch.zeros(x.batch_size).double())
    single = drawn(kind, dtype=torch.float32)
    x = x.to(torch.float32)
    y = single.inverse(single(x)[0])[0]
    torch.testing.assert_close(y.features, x.features, **tolerance(torch.float32, "formula"))


@pytest.mark.parametrize("kind", KINDS)
def test_values_determinants_and_gradients(backend, kind):
    x = scene("empty_batch_item").tensor(3)
    x.features.requires_grad_()
    layer = drawn(kind, 3)
    if kind == "full":
        w = layer.weight
    else:
        low = torch.stack([
            torch.stack([torch.ones(()).double() if i == j else layer.lower[i, j] * (j < i)
                         for j in range(3)]) for i in range(3)])  # fmt: skip
        up = torch.stack([
            torch.stack([layer.sign[i] * layer.log_scale[i].exp() if i == j
                         else layer.upper[i, j] * (j > i) for j in range(3)])
            for i in range(3)])  # fmt: skip
        w = layer.permutation @ (low @ up)
    z, logdet = layer(x)
    made_of = [x.features, *layer.parameters()]
    assert_twins(z.features, torch.stack([w @ row for row in x.features]), made_of)
    counts = torch.tensor([int((x.coords[:, 0] == b).sum()) for b in range(3)])
    assert counts.tolist() == [2, 0, 2]
    assert_twins(logdet, counts * torch.linalg.det(w).abs().log(), made_of[1:])
    # of all features of one scan
    mine = x.coords[:, 0] == 0

    def of_scan(features):
        return layer(x.replace(features=x.features.masked_scatter(mine[:, None], features)))[0]

    rows = x.features[mine].detach()
    jacobian = torch.autograd.functional.jacobian(lambda f: of_scan(f).features[mine], rows)
    whole = jacobian.reshape(rows.numel(), rows.numel())
    torch.testing.assert_close(logdet[0], torch.linalg.slogdet(whole).logabsdet)


def test_both_parametrizations_are_one_map(backend):
    x = scene("random_sparse").tensor(5)
    matrix = torch.randn(5, 5).double()
    full, lu = (nn.InvConv1x1(5, kind, dtype=torch.float64) for kind in KINDS)
    for layer in (full, lu):
        layer.set_matrix(matrix)
        torch.testing.assert_close(layer.matrix(), matrix)
        torch.testing.assert_close(layer.inverse_matrix() @ matrix, torch.eye(5).double())
    for a, b in zip(full(x), lu(x), strict=True):
        torch.testing.assert_close(getattr(a, "features", a), getattr(b, "features", b))


@pytest.mark.parametrize("kind", KINDS)
def test_it_begins_as_a_rotation_or_reflection(kind):
    layer = nn.InvConv1x1(16, kind)
    w = layer.matrix()
    torch.testing.assert_close(w @ w.t(), torch.eye(16), **tolerance(torch.float32, "forward", 16))
    assert layer.log_determinant().abs() < 1e-5
    assert not torch.equal(w, nn.InvConv1x1(16, kind).matrix())


@pytest.mark.parametrize("kind", KINDS)
def test_dense_and_sparse_of_a_full_grid(backend, kind):
    x = scene("full_cube").tensor(4)
    layer = drawn(kind)
    grid, logdet = layer(grid_of(x))
    z, sparse_logdet = layer(x)
    torch.testing.assert_close(at_sites(grid, x), z.features)
    torch.testing.assert_close(logdet, sparse_logdet)
    torch.testing.assert_close(layer.inverse(grid)[0], grid_of(x))


def test_laws(backend):
    x = scene("empty_batch_item").tensor(4)
    layer = drawn("lu", logdet=False)
    laws.isolation(layer, x)
    laws.permutation(layer, x)
    laws.translation(layer, x, (3, -2, 1))


def test_refusals():
    with pytest.raises(ValueError, match="parametrization: expected 'full' or 'lu', found 'qr'"):
        nn.InvConv1x1(4, "qr")
    layer = nn.InvConv1x1(4)
    with pytest.raises(ValueError, match=r"matrix: expected \[4, 4\], found \[3, 4\]"):
        layer.set_matrix(torch.ones(3, 4))
    with pytest.raises(ValueError, match="matrix: expected one that can be inverted"):
        layer.set_matrix(torch.zeros(4, 4))
    with pytest.raises(ValueError, match="input of InvConv1x1: expected 4 channels, found 3"):
        layer(scene("line").tensor(3))
