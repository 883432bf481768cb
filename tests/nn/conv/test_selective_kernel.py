"""Selective kernels against equations 1 to 6 written out; identities and refusals."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.testing import laws
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

CLOSE = tolerance(torch.float64, "formula")


def normed(norm, rows):
    """relu(norm(rows)), written out; rows of a batch norm share their statistics."""
    if isinstance(norm, nn.BatchNorm):
        if norm.training and len(rows) > 1:
            mean, var = rows.mean(0), rows.var(0, unbiased=False)
        else:
            mean, var = norm.running_mean, norm.running_var
        rows = (rows - mean) / (var + norm.eps).sqrt() * norm.weight + norm.bias
    elif isinstance(norm, torch.nn.LayerNorm):
        mean, var = rows.mean(1, True), rows.var(1, unbiased=False, keepdim=True)
        rows = (rows - mean) / (var + norm.eps).sqrt() * norm.weight + norm.bias
    return rows.clamp(min=0)


def formula(layer, x, y, stride=1):
    """Dense convolutions read at the sites, then a loop over scans and branches."""
    us = []
    for branch, norm in zip(layer.branches, layer.norms, strict=True):
        gap, kernel = branch.dilation[0], branch.weight.shape[2]
        args = (stride, gap * (kernel // 2), gap, branch.groups)
        full = dense.conv3d(grid_of(x), branch.weight, None, *args)
        us.append(normed(norm, at_sites(full, y)))
    total, item = sum(us), y.coords[:, 0].long()
    means = []
    for b in range(x.batch_size):
        mine = total[item == b]
        cells = len(mine) if layer.pool == "active" else torch.tensor(y.spatial_shape).prod()
        means.append(mine.sum(0) / max(int(cells), 1))
    z = normed(layer.squeeze_norm, torch.stack(means) @ layer.squeeze.weight.t())
    logits = (z @ layer.excite.weight.t()).reshape(x.batch_size, len(us), -1)
    a = logits.exp() / logits.exp().sum(1, keepdim=True)
    return sum(a[item, m] * u for m, u in enumerate(us))


def layer_of(channels=4, width=6, **kind):
    layer = nn.SKConv3d(channels, width, groups=2, **kind).double()
    with torch.no_grad():
        for p in layer.parameters():
            p += 0.3 * torch.randn_like(p)
    return layer


@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "one_voxel"])
@pytest.mark.parametrize("kind", [
    {},
    {"norm": "layer", "pool": "volume"},
    {"norm": None, "kernel_sizes": (1, 3, 5), "dilations": (1, 2, 1)},
])  # fmt: skip
@pytest.mark.parametrize("training", [False, True])
def test_formula(backend, name, kind, training):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = layer_of(**kind).train(training)
    expected = formula(layer, x, x)
    y = layer(x)
    assert y.coords is x.coords
    # gradients through batch norms of a handful of rows cancel
    assert_twins(y.features, expected, [x.features, *layer.parameters()], **CLOSE)


def test_stride(backend):
    x = scene("random_sparse").tensor(4)
    layer = layer_of(stride=2).eval()
    y = layer(x)
    blocks = {(b, *(v // 2 for v in at)) for b, *at in x.coords.tolist()}
    assert {tuple(c) for c in y.coords.tolist()} == blocks
    assert_twins(y.features, formula(layer, x, y, 2), list(layer.parameters()), **CLOSE)
    assert layer(grid_of(x)).shape == (3, 6, 4, 4, 4)


def test_a_full_grid_is_dense(backend):
    x = scene("full_cube").tensor(4)
    layer = layer_of()
    layer.train()
    for p in layer.norms:
        p.momentum = 0.0
    torch.testing.assert_close(at_sites(layer(grid_of(x)), x), layer(x).features, **CLOSE)


def test_equal_branches_need_no_choice(backend):
    x = scene("random_sparse").tensor(4)
    for count in (2, 3):
        layer = layer_of(kernel_sizes=(3,) * count, dilations=(1,) * count).eval()
        for branch, norm in zip(layer.branches, layer.norms, strict=True):
            branch.load_state_dict(layer.branches[0].state_dict())
            norm.load_state_dict(layer.norms[0].state_dict())
        first = nn.SubMConv3d(4, 6, 3, groups=2, bias=False).double()
        first.load_state_dict(layer.branches[0].state_dict())
        u = layer.norms[0](first(x), relu=True).features
        torch.testing.assert_close(layer(x).features, u)


def test_one_branch_is_convolution_norm_and_relu(backend):
    x = scene("random_sparse").tensor(4)
    layer = layer_of(kernel_sizes=(3,), dilations=(1,))
    layer.squeeze_norm.eval()
    conv = nn.SubMConv3d(4, 6, 3, groups=2, bias=False).double()
    conv.load_state_dict(layer.branches[0].state_dict())
    norm = nn.BatchNorm(6).double()
    norm.load_state_dict(layer.norms[0].state_dict())
    torch.testing.assert_close(layer(x).features, norm(conv(x)).features.clamp(min=0))


def test_shares_add_up_to_one():
    shares = layer_of().eval().shares(torch.randn(3, 6).double())
    assert shares.shape == (3, 2, 6)
    torch.testing.assert_close(shares.sum(1), torch.ones(3, 6).double())
    assert nn.SKConv3d(64).squeeze.out_features == 32
    assert nn.SKConv3d(1024).squeeze.out_features == 64


def test_training_on_one_scan_uses_the_running_statistics(backend):
    x = scene("plane").tensor(4)
    layer = layer_of()
    layer(x)
    assert not layer.squeeze_norm.running_mean.any() and layer.norms[0].running_mean.any()


def test_laws(backend):
    x = scene("empty_batch_item").tensor(4)
    layer = layer_of().eval()
    laws.isolation(layer, x)
    laws.permutation(layer, x)
    laws.translation(layer, x, (3, -2, 1))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"kernel_sizes": (2, 3)}, "kernel_sizes: expected odd ints, one per branch"),
        ({"dilations": (1,)}, "dilations: expected 2 ints, one per branch"),
        ({"norm": "group"}, "norm: expected 'batch'"),
        ({"pool": "max"}, "pool: expected 'active' or 'volume'"),
        ({"groups": 3}, "groups: expected a divisor of in_channels 8"),
    ],
)
def test_refusals(kind, words):
    with pytest.raises(ValueError, match=words):
        nn.SKConv3d(8, **{"groups": 2, **kind})


def test_refused_input():
    with pytest.raises(ValueError, match="input of SKConv3d: expected 32 channels, found 4"):
        nn.SKConv3d(32)(scene("line").tensor(4))
