"""Under autocast bfloat16 stays from layer to layer; parameters and their gradients are float32."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import sparseconv as sc
from sparseconv import nn
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance

C = 8
LAYERS = {
    "submanifold": lambda: nn.SubMConv3d(C, C, 3),
    "depthwise": lambda: nn.SubMConv3d(C, C, 3, groups=C),
    "strided": lambda: nn.SparseConv3d(C, C, 2, stride=2),
    "transposed": lambda: nn.SparseConvTranspose3d(C, C, 2, stride=2),
    "generative": lambda: nn.SparseGenerativeConv3d(C, C, 2, stride=2),
    "inverse": lambda: nn.Sequential(
        nn.SparseConv3d(C, C, 2, stride=2), nn.SparseInverseConv3d(C, C, 2)
    ),
    "linear": lambda: nn.Linear(C, C),
    "batch norm": lambda: nn.BatchNorm(C),
    "layer norm": lambda: nn.LayerNorm(C),
    "max": lambda: nn.MaxPool3d(2, 2),
    "sum": lambda: nn.SumPool3d(2, 2),
    "average": lambda: nn.AvgPool3d(2, 2),
    "unpool": lambda: nn.Sequential(nn.MaxPool3d(2, 2), nn.Unpool()),
    "global": lambda: nn.GlobalAvgPool(),
    "dropout": lambda: nn.Dropout(),
    "relu": lambda: nn.ReLU(),
    "gelu": lambda: nn.GELU(),
    "silu": lambda: nn.SiLU(),
    "sigmoid": lambda: nn.Sigmoid(),
}
PRODUCTS = ("submanifold", "depthwise", "strided", "transposed", "generative", "inverse", "linear")


def bf16():
    return torch.autocast("cpu", torch.bfloat16)


def dtype_of(value):
    return getattr(value, "features", value).dtype


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_keeps_bfloat16(backend, name):
    x = scene("random_sparse").tensor(C, torch.float32)
    features = x.features.bfloat16().requires_grad_()
    layer = LAYERS[name]()
    with bf16():
        y = layer(x.replace(features=features))
    assert dtype_of(y) == torch.bfloat16
    getattr(y, "features", y).float().square().sum().backward()
    assert features.grad.dtype == torch.bfloat16
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in layer.parameters())


@pytest.mark.parametrize("name", LAYERS)
def test_products_alone_narrow_float32(backend, name):
    x = scene("random_sparse").tensor(C, torch.float32)
    with bf16():
        y = LAYERS[name]()(x)
    assert dtype_of(y) == (torch.bfloat16 if name in PRODUCTS else torch.float32)


def test_every_activation_and_its_gradient_of_a_net_is_bfloat16(backend):
    x = scene("random_sparse").tensor(3, torch.float32)
    net = sc.models.MinkUNet(3, 4, (4, 8, 16, 12, 8), blocks=1)
    forward, backward = [], []

    def look(module, _, output):
        forward.append(dtype_of(output))
        output.features.register_hook(lambda grad: backward.append(grad.dtype))

    for module in net.modules():
        module.register_forward_hook(look)
    with bf16():
        y = net(x)
    y.features.float().square().mean().backward()
    assert len(forward) > 20 and set(forward) == {torch.bfloat16}
    assert len(backward) > 20 and set(backward) == {torch.bfloat16}
    assert all(p.grad.dtype == torch.float32 for p in net.parameters())


class Casts(TorchDispatchMode):
    """Shapes of what is converted to another dtype."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") != args[0].dtype:
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


def test_neither_a_weight_nor_its_gradient_is_copied_to_be_cast(backend):
    x = scene("random_sparse").tensor(C, torch.float32)
    x = x.replace(features=x.features.bfloat16().requires_grad_())
    layer = nn.SubMConv3d(C, C, 3, bias=False)
    with Casts() as casts, bf16():
        y = layer(x).features
        y.backward(torch.ones_like(y))
    assert casts.shapes == []
    assert layer.weight.grad.dtype == torch.float32


def test_autocast_gives_the_result_of_rounded_parameters(backend):
    x = scene("random_sparse").tensor(C, torch.float32)
    layer = nn.SubMConv3d(C, C, 3)
    with bf16():
        y = layer(x).features
    rounded = nn.SubMConv3d(C, C, 3)
    with torch.no_grad():
        for to, of in zip(rounded.parameters(), layer.parameters(), strict=True):
            to.copy_(of.bfloat16())
    expected = rounded.double()(x.replace(features=x.features.bfloat16().double())).features
    close = tolerance(torch.bfloat16, "forward", 27 * C)
    torch.testing.assert_close(y.double(), expected, **close)
