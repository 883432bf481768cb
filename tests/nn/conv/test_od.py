"""ODConv equals gates around a dense convolution of each scan with its own kernel."""

import pytest
import torch

from sparseconv import nn
from sparseconv.testing import laws
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scans import convolved, means
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}


def stirred(layer):
    with torch.no_grad():
        for p in layer.parameters():
            p += 0.3 * torch.randn_like(p)
    return layer


def by_gates(layer, x, spec, temperature):
    """Gate inputs before the convolution and outputs behind it, as the paper draws it."""
    hidden = means(x) @ layer.trunk.fc.weight.T
    norm = layer.trunk.norm
    if isinstance(norm, torch.nn.LayerNorm):
        centred = hidden - hidden.mean(1, keepdim=True)
        hidden = centred / (centred.square().mean(1, keepdim=True) + norm.eps).sqrt()
    else:
        axis = (hidden.mean(0), hidden.var(0, unbiased=False))
        mean, var = axis if layer.training else (norm.running_mean, norm.running_var)
        hidden = (hidden - mean) / (var + norm.eps).sqrt()
    hidden = torch.relu(hidden * norm.weight + norm.bias)

    def gate(fc, width):
        if fc is None:
            return torch.ones(x.batch_size, width, **WIDE)
        return torch.sigmoid((hidden @ fc.weight.T + fc.bias) / temperature)

    size = spec.kernel
    taps = size[0] * size[1] * size[2]
    kernel_fc = layer.kernel_fc
    shares = torch.ones(x.batch_size, 1, **WIDE)
    if kernel_fc is not None:
        shares = torch.softmax((hidden @ kernel_fc.weight.T + kernel_fc.bias) / temperature, 1)
    kernels = torch.einsum("bk,k...->b...", shares, layer.weight)
    spatial = gate(layer.spatial_fc, taps).reshape(-1, 1, 1, *size)
    grid = grid_of(x) * gate(layer.channel_fc, layer.in_channels)[..., None, None, None]
    y = convolved(grid, kernels * spatial, None, spec, layer.groups)
    y = y * gate(layer.filter_fc, layer.out_channels)[..., None, None, None]
    return y if layer.bias is None else y + layer.bias[:, None, None, None]


CASES = {
    "plain": ((4, 6, 3), {}),
    "groups": ((4, 6, 3), {"groups": 2, "bias": True}),
    "depthwise": ((4, 4, 3), {"groups": 4}),
    "pointwise": ((4, 6, 1), {}),
    "one kernel": ((4, 6, (3, 1, 3)), {"kernel_num": 1, "bias": True}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item"])
def test_dense_scan_by_scan(backend, name, norm, case):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    arguments, options = CASES[case]
    layer = stirred(nn.ODConv3d(*arguments, padding="subm", norm=norm, **options, **WIDE))
    layer.set_temperature(0.5)
    y = layer(x)
    full = by_gates(layer, x, Spec.of(arguments[2], 1, "same"), 0.5)
    leaves = [x.features, *layer.parameters()]
    assert_twins(y.features, at_sites(full, y), leaves)


def test_strided_and_evaluated(backend):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    layer = stirred(nn.ODConv3d(4, 6, 3, 2, 1, **WIDE))
    layer(x)
    layer.eval()
    y = layer(x)
    full = by_gates(layer, x, Spec.of(3, 2, 1), 1.0)
    assert_twins(y.features, at_sites(full, y), [x.features, *layer.parameters()])


def test_a_dense_tensor_is_a_full_grid():
    x = scene("full_cube").tensor(4)
    layer = stirred(nn.ODConv3d(4, 6, 3, padding="subm", norm="layer", groups=2, **WIDE))
    torch.testing.assert_close(at_sites(layer(grid_of(x)), x), layer(x).features)


def test_heads_of_zero_give_an_eighth_of_the_mean_kernel():
    x = scene("random_sparse").tensor(4)
    layer = nn.ODConv3d(4, 6, 3, padding="subm", **WIDE)
    with torch.no_grad():
        for fc in (layer.channel_fc, layer.filter_fc, layer.spatial_fc, layer.kernel_fc):
            fc.weight.zero_()
    plain = nn.SubMConv3d(4, 6, 3, bias=False, **WIDE)
    with torch.no_grad():
        plain.weight.copy_(layer.weight.mean(0) / 8)
    torch.testing.assert_close(layer(x).features, plain(x).features)


def test_open_gates_and_one_kernel_are_a_plain_convolution(backend):
    x = scene("random_sparse").tensor(4)
    layer = nn.ODConv3d(4, 6, 3, padding="subm", kernel_num=1, **WIDE)
    plain = nn.SubMConv3d(4, 6, 3, bias=False, **WIDE)
    with torch.no_grad():
        for fc in (layer.channel_fc, layer.filter_fc, layer.spatial_fc):
            fc.weight.zero_()
            fc.bias.fill_(100)
        plain.weight.copy_(layer.weight[0])
    torch.testing.assert_close(layer(x).features, plain(x).features)


def test_heads_without_a_purpose_are_left_out():
    assert nn.ODConv3d(4, 4, 3, groups=4).filter_fc is None
    assert nn.ODConv3d(4, 6, 1).spatial_fc is None
    assert nn.ODConv3d(4, 6, 3, kernel_num=1).kernel_fc is None


def test_scans_do_not_meet(backend):
    layer = stirred(nn.ODConv3d(4, 6, 3, padding="subm", norm="layer", **WIDE))
    laws.isolation(layer, scene("same_xyz").tensor(4))


def test_one_scan_trains_with_the_layer_norm_alone():
    x = scene("one_voxel").tensor(4)
    with pytest.raises(ValueError, match=r"norm: expected two scans.*norm='layer'"):
        nn.ODConv3d(4, 6, 3, padding="subm", **WIDE)(x)
    nn.ODConv3d(4, 6, 3, padding="subm", **WIDE).eval()(x)
    assert nn.ODConv3d(4, 6, 3, padding="subm", norm="layer", **WIDE)(x).features.isfinite().all()


def test_every_kernel_is_drawn_by_its_own_fan_out():
    torch.manual_seed(0)
    layer = nn.ODConv3d(64, 64, 3, groups=2, kernel_num=3)
    twin = torch.empty(64, 32, 3, 3, 3)
    torch.nn.init.kaiming_normal_(twin, mode="fan_out", nonlinearity="relu")
    for kernel in layer.weight.detach():
        assert kernel.std().item() == pytest.approx(twin.std().item(), rel=0.02)
    for fc in (layer.channel_fc, layer.filter_fc, layer.spatial_fc, layer.kernel_fc):
        assert not fc.bias.any()


def test_refusals():
    with pytest.raises(ValueError, match="norm: expected 'batch' or 'layer'"):
        nn.ODConv3d(4, 6, 3, norm="none")
    with pytest.raises(ValueError, match="kernel_num"):
        nn.ODConv3d(4, 6, 3, kernel_num=0)
    with pytest.raises(ValueError, match="temperature"):
        nn.ODConv3d(4, 6, 3).set_temperature(0)
