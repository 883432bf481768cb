"""A batch norm does the work of the ReLU and the sum behind it, and nothing else changes."""

import copy

import pytest
import torch
from torch import nn as dense
from torch.utils._python_dispatch import TorchDispatchMode

from sparseconv import nn
from sparseconv.models.blocks import ResidualBlock
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing.scenes import room, scene
from sparseconv.testing.tolerances import tolerance


class Calls(TorchDispatchMode):
    """Names of the ops that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def one_by_one(modules, x):
    for module in modules:
        x = x.replace(features=module(x.features))
    return x


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("relu", [nn.ReLU, dense.ReLU])
def test_norm_and_relu_are_one_op_with_the_same_numbers(relu, training):
    x = scene("random_sparse").tensor(4, torch.float32)
    net, twin = (nn.Sequential(nn.BatchNorm(4), relu()).train(training) for _ in range(2))
    with Calls() as calls:
        y = net(x)
    assert not any("relu" in name or "clamp" in name for name in calls.names)
    assert sum("sparseconv" in name for name in calls.names) == 1
    torch.testing.assert_close(y.features, one_by_one(twin, x).features)
    torch.testing.assert_close(net.state_dict(), twin.state_dict())
    assert (y.features == 0).any()


LAYERS = {
    "submanifold": lambda: nn.SubMConv3d(4, 6, 3),
    "grouped": lambda: nn.SubMConv3d(4, 6, 3, groups=2, bias=False),
    "strided": lambda: nn.SparseConv3d(4, 6, 2, stride=2),
    "transposed": lambda: nn.SparseConvTranspose3d(4, 6, 2, 2),
    "pointwise": lambda: nn.PointwiseConv3d(4, 6),
    "pointwise, strided": lambda: nn.PointwiseConv3d(4, 6, stride=2),
    "depthwise": lambda: nn.DepthwiseConv3d(4, 3, padding="subm"),
    "coord": lambda: nn.CoordConv3d(4, 6, 3, padding="subm", coord_range="fixed", extent=(9, 9, 9)),
    "masked": lambda: nn.MaskedConv3d(4, 6, 3, "B"),
    "linear": lambda: nn.Linear(4, 6),
}
MODES = ["training", "training, no gradient", "evaluation", "evaluation, no gradient"]


def with_statistics(conv, relu=True):
    width = conv.out_features if isinstance(conv, nn.Linear) else conv.out_channels
    net = nn.Sequential(conv, nn.BatchNorm(width), *([nn.ReLU()] if relu else []))
    with torch.no_grad():
        net[1].running_mean.normal_()
        net[1].running_var.uniform_(0.5, 2)
        net[1].weight.normal_()
        net[1].bias.normal_()
    return net


@pytest.mark.parametrize("relu", [True, False], ids=["relu", "no relu"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LAYERS)
def test_convolution_norm_and_relu_are_the_layers_one_by_one(name, mode, relu):
    """Results, gradients and running statistics, and one op where that is promised."""
    torch.manual_seed(0)
    coords = room(400, seed=3)
    leaf = torch.randn(len(coords), 4, dtype=torch.float64, requires_grad=True)
    x = SparseTensor(coords, leaf, spatial_shape=(64, 64, 64))
    net = with_statistics(LAYERS[name](), relu).double().train(mode.startswith("training"))
    twin = copy.deepcopy(net)
    quiet = mode.endswith("no gradient")
    with torch.set_grad_enabled(not quiet), Calls() as calls:
        found = net(x)
    with torch.set_grad_enabled(not quiet):
        expected = x
        for module in twin:
            expected = module(expected)
    close = tolerance(torch.float64, "kernel")
    torch.testing.assert_close(found.features, expected.features, **close)
    torch.testing.assert_close(net.state_dict(), twin.state_dict(), **close)
    ran = [call.split(".")[1] for call in calls.names if call.startswith("sparseconv.")]
    ran = [op for op in ran if op.startswith(("conv", "norm", "batch"))]
    if mode == "evaluation, no gradient":
        assert ran == ["conv_fused"]
    else:
        assert ran == (["conv_norm"] if mode.startswith("training") else ["conv", "norm_apply"])
    if quiet:
        return
    probe = torch.randn_like(found.features)
    wanted = [leaf, *twin.parameters()]
    ours = torch.autograd.grad((found.features * probe).sum(), [leaf, *net.parameters()])
    theirs = torch.autograd.grad((expected.features * probe).sum(), wanted)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **tolerance(torch.float64, "formula"))


def test_a_norm_behind_a_convolution_that_somebody_listens_to_is_called_alone():
    x = scene("random_sparse").tensor(4, torch.float32)
    for place in (0, 1, 2):
        net = with_statistics(nn.SubMConv3d(4, 6, 3)).eval()
        plain = net(x).features
        seen = []
        net[place].register_forward_hook(lambda module, given, made, seen=seen: seen.append(made))
        torch.testing.assert_close(net(x).features, plain, **tolerance(torch.float32, "kernel"))
        assert len(seen) == 1


@pytest.mark.parametrize("with_norm", [True, False])
def test_a_convolution_that_cannot_clip_is_followed_by_what_clips(with_norm):
    x = scene("random_sparse").tensor(4, torch.float32)
    conv = nn.DeformConv3d(4, 6, 3, padding="subm")
    norm = nn.BatchNorm(6).eval() if with_norm else dense.Identity()
    y = nn.Sequential(conv, norm, nn.ReLU())(x)
    expected = nn.Sequential(conv)(x)
    expected = norm(expected) if with_norm else expected
    torch.testing.assert_close(y.features, expected.features.relu())


@pytest.mark.parametrize("track", [True, False])
def test_one_site_has_no_statistics_of_its_own(track):
    coords = torch.tensor([[0, 3, 4, 5]], dtype=torch.int32)
    x = SparseTensor(coords, torch.randn(1, 4))
    conv, norm = nn.SubMConv3d(4, 6, 3), nn.BatchNorm(6, track_running_stats=track)
    y = nn.Sequential(conv, norm, nn.ReLU())(x)
    torch.testing.assert_close(y.features, norm(conv(x)).features.relu())
    assert not track or norm.num_batches_tracked == 0


def test_a_norm_that_does_not_fit_the_convolution_is_named():
    x = scene("random_sparse").tensor(4, torch.float32)
    net = nn.Sequential(nn.SubMConv3d(4, 6, 3), nn.BatchNorm(5)).eval()
    for mode in (torch.no_grad, torch.enable_grad):
        with mode(), pytest.raises(ValueError, match=r"mean: expected shape \[6\], found"):
            net(x)


@pytest.mark.parametrize("mode", MODES)
def test_autocast_gives_the_layers_one_by_one(mode):
    torch.manual_seed(0)
    coords = room(400, seed=3)
    leaf = torch.randn(len(coords), 32, requires_grad=True)
    x = SparseTensor(coords, leaf)
    net = with_statistics(nn.SubMConv3d(32, 32, 3)).train(mode.startswith("training"))
    twin = copy.deepcopy(net)
    with (
        torch.set_grad_enabled(not mode.endswith("no gradient")),
        torch.autocast("cpu", torch.bfloat16),
    ):
        found, expected = net(x).features, x
        for module in twin:
            expected = module(expected)
    expected = expected.features
    assert found.dtype == expected.dtype == torch.bfloat16
    close = tolerance(torch.bfloat16, "kernel")
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(net.state_dict(), twin.state_dict())
    if found.requires_grad:
        assert torch.equal(found, expected), "the same ops, one rounding after the other"
        ours = torch.autograd.grad(found.float().square().sum(), [leaf, *net.parameters()])
        theirs = torch.autograd.grad(expected.float().square().sum(), [leaf, *twin.parameters()])
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
        assert [grad.dtype for grad in ours] == [torch.float32] * 5


def test_autocast_normalises_before_it_rounds():
    coords = room(400, seed=3)
    x = SparseTensor(coords, torch.randn(len(coords), 4))
    net = with_statistics(nn.SubMConv3d(4, 32, 3), relu=False).eval()
    exact = net(x).features.detach().double()
    errors = []
    for one_pass in (True, False):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            y = net(x) if one_pass else net[1](net[0](x))
        assert y.features.dtype == torch.bfloat16
        errors.append(float((y.features.double() - exact).square().mean()))
    assert 0 < errors[0] < errors[1]


@pytest.mark.parametrize("place", [0, 1])
def test_modules_somebody_listens_to_are_called_alone(place):
    x = scene("random_sparse").tensor(4, torch.float32)
    net = nn.Sequential(nn.BatchNorm(4), nn.ReLU())
    seen = []
    net[place].register_forward_hook(lambda module, given, made: seen.append(made))
    y = net(x)
    assert len(seen) == 1
    assert (seen[0].features < 0).any() == (place == 0)
    assert torch.equal(y.features, seen[0].features.relu())


def test_a_norm_of_ones_own_is_called_as_it_is():
    class Doubled(nn.BatchNorm):
        def forward(self, x):
            return x.replace(features=2 * super().forward(x.features))

    x = scene("random_sparse").tensor(4, torch.float32)
    expected = 2 * dense.BatchNorm1d(4)(x.features).relu()
    y = nn.Sequential(Doubled(4), nn.ReLU())(x)
    torch.testing.assert_close(y.features, expected)


@pytest.mark.parametrize("channels", [4, 6])
@pytest.mark.parametrize("training", [True, False])
def test_residual_block_is_its_formula(channels, training):
    coords = room(300, seed=3)
    x = SparseTensor(coords, torch.randn(len(coords), 4, requires_grad=True))
    block = ResidualBlock(4, channels).train(training)
    with Calls() as calls:
        y = block(x)
    assert not any("relu" in n or "aten.add.Tensor" in n for n in calls.names)
    y.features.square().sum().backward()
    found = [x.features.grad.clone(), *(p.grad.clone() for p in block.parameters())]
    x.features.grad = None
    block.zero_grad()

    def norm(module, x):
        return dense.functional.batch_norm(
            x,
            module.running_mean.clone(),
            module.running_var.clone(),
            module.weight,
            module.bias,
            training,
        )

    # statistics as they were before the call
    block.load_state_dict({**block.state_dict(), **fresh_statistics(block)})
    inner = block.first[0](x)
    inner = block.second[0](x.replace(features=norm(block.first[1], inner.features).relu()))
    skip = x.features
    if channels != 4:
        skip = norm(block.skip[1], block.skip[0](x).features)
    expected = (norm(block.second[1], inner.features) + skip).relu()
    torch.testing.assert_close(y.features, expected)
    expected.square().sum().backward()
    wanted = [x.features.grad, *(p.grad for p in block.parameters())]
    for a, b in zip(found, wanted, strict=True):
        scale = float(b.abs().max())
        torch.testing.assert_close(a / scale, b / scale, **tolerance(torch.float32, "traced"))


def fresh_statistics(block):
    state = {}
    for key, value in block.state_dict().items():
        if "running_mean" in key or "num_batches" in key:
            state[key] = torch.zeros_like(value)
        elif "running_var" in key:
            state[key] = torch.ones_like(value)
    return state


def test_sum_and_relu_of_a_norm_called_by_hand():
    x = scene("random_sparse").tensor(4, torch.float32)
    other = x.replace(features=torch.randn_like(x.features))
    expected = (dense.BatchNorm1d(4)(x.features) + other.features).relu()
    torch.testing.assert_close(nn.BatchNorm(4)(x, add=other, relu=True).features, expected)
    found = nn.BatchNorm(4)(x.features, add=other.features, relu=True)
    torch.testing.assert_close(found, expected)
    # another dtype: promoted, as x + y is
    wide = nn.BatchNorm(4)(x.features, add=other.features.double(), relu=True)
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide, expected.double(), **tolerance(torch.float32, "forward", 27))


@pytest.mark.parametrize("name", ["empty", "one_voxel"])
@pytest.mark.parametrize("tracked", [True, False])
def test_too_few_rows_for_a_variance(name, tracked):
    x = scene(name).tensor(4, torch.float32)
    layer = nn.BatchNorm(4, track_running_stats=tracked)
    y = layer(x, add=x, relu=True)
    expected = layer.eval()(x).features if tracked else torch.zeros_like(x.features)
    torch.testing.assert_close(y.features, (expected + x.features).relu())
