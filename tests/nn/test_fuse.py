"""Batch norms folded into the layers before them change nothing but rounding."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import sparseconv as sc
from sparseconv.nn.conv._base import Convolution
from sparseconv.testing.scenes import room, scene
from sparseconv.testing.tolerances import tolerance


def scan(channels=4, dtype=torch.float64):
    coords = room(400, seed=2)
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(len(coords), channels, generator=generator, dtype=dtype)
    return sc.SparseTensor(coords, features)


def lived_in(model):
    """Give norms statistics and scales that are not those they begin with."""
    generator = torch.Generator().manual_seed(7)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for value in (module.running_mean, module.weight, module.bias):
                if value is not None:
                    value.data.copy_(torch.randn(value.shape, generator=generator))
            module.running_var.copy_(
                torch.rand(module.running_var.shape, generator=generator) + 0.1
            )
    return model.double().eval()


CHAINS = {
    "submanifold": lambda: [sc.nn.SubMConv3d(4, 6, 3, bias=False), sc.nn.BatchNorm(6)],
    "with bias": lambda: [sc.nn.SubMConv3d(4, 6, 3), sc.nn.BatchNorm(6)],
    "groups": lambda: [sc.nn.SparseConv3d(4, 6, 2, 2, groups=2), nn.BatchNorm1d(6)],
    "transposed": lambda: [sc.nn.SparseConvTranspose3d(4, 6, 2, 2), sc.nn.BatchNorm(6)],
    "transposed groups": lambda: [
        sc.nn.SparseGenerativeConv3d(4, 6, 2, groups=2),
        sc.nn.BatchNorm(6),
    ],
    "linear": lambda: [nn.Linear(4, 6), sc.nn.BatchNorm(6, affine=False)],
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_gives_the_same(name):
    chain = lived_in(sc.nn.Sequential(*CHAINS[name](), nn.ReLU()))
    before = {key: value.clone() for key, value in chain.state_dict().items()}
    fused = sc.nn.fuse(chain)
    assert len(fused) == 2
    x = scan()
    torch.testing.assert_close(
        fused(x).features, chain(x).features, **tolerance(torch.float64, "formula")
    )
    for key, value in chain.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_unet_gives_the_same_without_a_norm():
    net = lived_in(sc.models.MinkUNet(4, 5, (6, 8, 10, 8, 6), blocks=1))
    fused = sc.nn.fuse(net)
    assert not any(isinstance(module, nn.BatchNorm1d) for module in fused.modules())
    x = scan()
    torch.testing.assert_close(
        fused(x).features, net(x).features, **tolerance(torch.float64, "formula")
    )
    assert fused.stem[0][0].weight.stride() == net.stem[0][0].weight.stride()


class Calls(TorchDispatchMode):
    """Counts calls of operators by name."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count[func.overloadpacket.__name__] += 1
        return func(*args, **kwargs or {})


def test_norm_sum_and_relu_cost_no_pass_of_their_own():
    net = lived_in(sc.models.MinkUNet(4, 5, (6, 8, 10, 8, 6), blocks=2))
    fused, x = sc.nn.fuse(net), scan()
    convolutions = sum(isinstance(m, Convolution) for m in net.modules())
    with torch.no_grad(), Calls() as calls:
        fused(x)
    assert calls.count["conv_fused"] == convolutions
    linear = sum(isinstance(m, nn.Linear) for m in net.modules())
    assert calls.count["conv"] == linear
    assert not {"mm", "addmm", "relu", "relu_", "add", "add_", "norm_apply"} & set(calls.count)


LAYERS = {
    "submanifold": lambda: sc.nn.SubMConv3d(4, 6, 3),
    "regular": lambda: sc.nn.SparseConv3d(4, 6, 2, 2),
    "transposed": lambda: sc.nn.SparseConvTranspose3d(4, 6, 2, 2),
    "generative": lambda: sc.nn.SparseGenerativeConv3d(4, 6, 2),
    "inverse": lambda: sc.nn.SparseInverseConv3d(4, 6, 2),
}


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_every_convolution_adds_and_clips(name, grad):
    layer, x = LAYERS[name]().double(), scan()
    if name == "inverse":
        x = sc.nn.MaxPool3d(2)(x)
    with torch.set_grad_enabled(grad):
        y = layer(x)
        other = y.replace(features=torch.randn_like(y.features))
        expected = (y.features + other.features).relu()
        assert 0.1 < (expected == 0).double().mean() < 0.9
        found = layer(x, add=other, relu=True)
        assert found.features.requires_grad == grad
        torch.testing.assert_close(found.features, expected, **tolerance(torch.float64, "formula"))
        grid = torch.randn(1, 4, 4, 4, 4, dtype=torch.float64)
        plain = layer(grid)
        torch.testing.assert_close(layer(grid, add=plain, relu=True), (2 * plain).relu())


def test_what_cannot_be_folded_stays():
    shared = sc.nn.SubMConv3d(4, 4, 3)
    twice = sc.nn.Sequential(shared, sc.nn.BatchNorm(4), shared)
    hooked = sc.nn.Sequential(sc.nn.SubMConv3d(4, 4, 3), sc.nn.BatchNorm(4))
    hooked[0].register_forward_hook(lambda *_: None)
    free = sc.nn.Sequential(
        sc.nn.SubMConv3d(4, 4, 3), sc.nn.BatchNorm(4, track_running_stats=False)
    )
    first = sc.nn.Sequential(sc.nn.BatchNorm(4), nn.ReLU())
    x = scan()
    for chain in (twice, hooked, first):
        fused = sc.nn.fuse(lived_in(chain))
        assert len(fused) == len(chain)
        assert torch.equal(fused(x).features, chain(x).features)
    assert len(sc.nn.fuse(free)) == 2


@pytest.mark.parametrize(
    "layer",
    [
        lambda: sc.nn.DepthwiseConv3d(6, 3, padding="subm", depth_multiplier=2),
        lambda: sc.nn.PointwiseConv3d(6, 12, groups=3),
        lambda: sc.nn.GroupPointwiseConv3d(6, 12, 2),
        lambda: sc.nn.MaskedConv3d(6, 12, 3, "B", 3),
        lambda: sc.nn.CoordConv3d(6, 12, 3, padding="subm"),
        lambda: sc.nn.ShuffledGroupConv3d(6, 12, 2),
        lambda: sc.nn.DepthwiseSeparableConv3d(6, 12, 3, padding="subm"),
        lambda: sc.nn.DenseConv3d(6, 12, 3, padding=1),
    ],
)
def test_every_layer_before_a_norm_gives_what_it_gave(backend, layer):
    # one whose outputs do not come in the order of its weight's rows must not be folded
    norm = sc.nn.BatchNorm(12)
    net = sc.nn.Sequential(layer(), norm, sc.nn.ReLU()).double().eval()
    for part in (norm.weight, norm.bias, norm.running_mean):
        torch.nn.init.normal_(part)
    torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    x = scene("random_sparse").tensor(6)
    with torch.no_grad():
        torch.testing.assert_close(sc.nn.fuse(net)(x).features, net(x).features)
