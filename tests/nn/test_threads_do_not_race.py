"""Threads share no output row: one thread and two agree bit for bit, run after run.

Another library's CPU path loses rows with two threads on exactly such a scene.
"""

import pytest
import torch

import sparseconv as sc
from sparseconv import nn
from sparseconv.backends import native_available
from sparseconv.testing.scenes import room
from sparseconv.testing.tolerances import tolerance

REPEATS = 4
pytestmark = pytest.mark.skipif(
    not native_available(), reason="only the compiled kernels have threads of their own"
)


@pytest.fixture(scope="module")
def big():
    coords = room(60_000)
    assert len(coords) > 50_000
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(len(coords), 16, generator=rng)
    return coords, features


def gradients(make, coords, features, threads):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layer = make()
    x = features.clone().requires_grad_()
    y = layer(sc.SparseTensor(coords, x))
    probe = torch.randn(y.features.shape, generator=torch.Generator().manual_seed(1))
    (y.features * probe).sum().backward()
    return [y.coords, y.features.detach(), x.grad, *(p.grad for p in layer.parameters())]


LAYERS = {
    "submanifold": lambda: nn.SubMConv3d(16, 24, 3),
    "strided": lambda: nn.SparseConv3d(16, 16, 3, 2, 1),
    "grouped": lambda: nn.SubMConv3d(16, 16, 3, groups=4),
    "max pool": lambda: nn.MaxPool3d(3, 2, 1),
    "sum pool": lambda: nn.SumPool3d(3, 2, 1),
    "global": lambda: nn.Sequential(nn.SubMConv3d(16, 8, 1), nn.Linear(8, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(big, name):
    names = ["coords", "forward", "input gradient", "weight gradient", "bias gradient"]
    one = gradients(LAYERS[name], *big, 1)
    for _ in range(REPEATS):
        two = gradients(LAYERS[name], *big, 2)
        for what, a, b in zip([*names, *names], one, two, strict=False):
            assert torch.equal(a, b), f"{what} differs in {int((a != b).sum())} places"


def test_where_ops(big):
    coords, _ = big

    def found(threads):
        torch.set_num_threads(threads)
        x = sc.SparseTensor(coords, torch.ones(len(coords), 1))
        book = x.topology.rulebook(x.level, x.level, nn.SubMConv3d(1, 1, 3).geometry)
        y = nn.MaxPool3d(2)(x)
        back = x.topology.rulebook(x.level, y.level, nn.MaxPool3d(2).geometry)
        rows = x.lookup(coords.flip(0))
        books = [each for b in (book, back) for each in (b.in_rows, b.out_rows, b.segments)]
        return [*books, y.coords, rows]

    one = found(1)
    for _ in range(REPEATS):
        assert all(torch.equal(a, b) for a, b in zip(one, found(2), strict=True))


def test_input_gradient_of_a_unet(big):
    coords, features = big

    def gradient(threads):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        net = sc.models.MinkUNet(16, 5, channels=(8, 8, 16, 8, 8), blocks=1)
        x = features.clone().requires_grad_()
        y = net(sc.SparseTensor(coords, x))
        y.features.square().mean().backward()
        return y.features.detach(), x.grad

    # torch's own batch norm splits its sums by thread: it may differ in the last bits, rows may not
    one, two = gradient(1), gradient(2)
    for a, b in zip(one, two, strict=True):
        scale = a.abs().max()
        assert scale > 0
        torch.testing.assert_close(a / scale, b / scale, **tolerance(torch.float32, "kernel"))
    for a, b in zip(two, gradient(2), strict=True):
        assert torch.equal(a, b)
