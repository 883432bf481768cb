"""A batch norm does the work of the ReLU and the sum behind it, and nothing else changes."""

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
