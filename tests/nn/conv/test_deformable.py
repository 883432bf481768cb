"""Deformable convolutions equal per-tap sampling of the zero-filled grid, gradients too."""

from itertools import product

import pytest
import torch
from torch.nn import functional as dense

import sparseconv as sc
from sparseconv.functional.conv import by_tap
from sparseconv.functional.sample import deform_conv3d
from sparseconv.nn.conv.deformable import DeformConv3d
from sparseconv.testing import laws, oracle
from sparseconv.testing.between import at_sites, contract, grid_of, read_between, taps_of
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def stirred(layer, spread=0.3):
    """Draw the parameters of the heads too, so that taps move by a voxel or so."""
    for parameter in layer.conv_offset.parameters():
        torch.nn.init.normal_(parameter, std=spread)
    return layer.double()


def expected(layer, x, spec, sites):
    """The layer's formula on the zero-filled grid, at the output sites."""
    grid = grid_of(x.features, x.coords, x.batch_size, x.spatial_shape)
    heads, taps, parts = layer.conv_offset, len(spec.taps), layer.offset_groups
    sides = [side for a in (2, 1, 0) for side in (spec.left[a], spec.right[a])]
    given = heads.weight, heads.bias, spec.stride, 0, spec.dilation
    values = at_sites(dense.conv3d(dense.pad(grid, sides), *given), sites)
    offsets = values[:, : 3 * parts * taps].reshape(-1, parts, taps, 3)
    # an offset group is a row of taps
    positions = taps_of(sites, spec)[:, :, None] + offsets.permute(0, 2, 1, 3)
    read = read_between(grid, [site[0] for site in sites], positions)
    if layer.modulated:
        mask = torch.sigmoid(values[:, 3 * parts * taps :]).reshape(-1, parts, taps)
        read = read * mask.transpose(1, 2).repeat_interleave(x.channels // parts, 2)
    return contract(read, layer.weight, layer.bias, layer.groups)


CASES = {
    # kernel, stride, padding, dilation, groups, offset groups, modulated
    "v1": (3, 1, "subm", 1, 1, 1, False),
    "v2": (3, 1, "subm", 1, 2, 2, True),
    "even, dilated": ((2, 3, 1), 1, "subm", 2, 1, 2, True),
    "strided": ((3, 2, 1), 2, (1, 0, 0), 1, 2, 1, True),
    "growing": (2, 1, 1, 1, 1, 4, False),
}


@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "one_voxel"])
@pytest.mark.parametrize("case", CASES)
def test_forward_and_gradients(backend, name, case):
    *shape, groups, parts, modulated = CASES[case]
    layer = stirred(DeformConv3d(4, 6, *shape, groups, parts, modulated=modulated))
    x = scene(name).tensor(4)
    # a third of the random sites will do
    x = sc.SparseTensor(x.coords[:40], x.features[:40], x.spatial_shape, x.batch_size)
    features = x.features.requires_grad_()
    spec = oracle.Spec.of(*("same" if value == "subm" else value for value in shape))
    sites = oracle.sites_of(x.coords)
    if shape[2] != "subm":
        sites = oracle.conv_sites(sites, spec, x.spatial_shape)
    y = layer(x)
    assert oracle.sites_of(y.coords) == sites
    right = expected(layer, x, spec, sites)
    torch.testing.assert_close(y.features, right, **EXACT)
    leaves, probe = (features, *layer.parameters()), torch.randn_like(right)
    ours = torch.autograd.grad(y.features, leaves, probe)
    wanted = torch.autograd.grad(right, leaves, probe)
    for a, b in zip(ours, wanted, strict=True):
        assert b.any() or name == "one_voxel"
        torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["random_sparse", "full_cube", "far_away", "negative"])
def test_at_first_it_is_a_plain_convolution(backend, name, dtype, modulated):
    x = scene(name).tensor(4, dtype)
    layer = DeformConv3d(4, 6, 3, padding="subm", modulated=modulated, dtype=dtype)
    plain = sc.nn.SubMConv3d(4, 6, 3, dtype=dtype)
    plain.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    share = 0.5 if modulated else 1.0
    right = share * (plain(x).features - layer.bias) + layer.bias
    close = {"rtol": 2e-5, "atol": 2e-6} if dtype == torch.float32 else EXACT
    torch.testing.assert_close(layer(x).features, right, **close)


def test_whole_offsets_are_shifted_taps(backend):
    x = scene("random_sparse").tensor(4)
    layer = DeformConv3d(4, 6, 3, padding="subm", dtype=torch.float64)
    shifts = torch.randint(-2, 3, (27, 3))
    with torch.no_grad():
        layer.conv_offset.bias.copy_(shifts.flatten())
    offsets = torch.tensor(layer.geometry.offsets).reshape(27, 3) + shifts
    right = sc.convolve(x, by_tap(layer.weight), layer.bias, sc.rulebook(x, offsets=offsets))
    torch.testing.assert_close(layer(x).features, right.features, **EXACT)


def test_planar_arithmetic(backend):
    # a slab of one layer, kernel (1, 3, 2), two offset groups: rows and columns of an image
    height, width, (kh, kw), parts = 4, 5, (3, 2), 2
    coords = torch.cartesian_prod(*(torch.arange(n) for n in (1, 1, height, width))).int()
    image = torch.randn(4, height, width, dtype=torch.float64)
    x = sc.SparseTensor(coords, image.reshape(4, -1).t(), (1, height, width), 1)
    layer = DeformConv3d(
        4, 6, (1, kh, kw), 1, (0, 1, 0), groups=2, offset_groups=parts, modulated=True
    ).double()
    # channels of an image's offsets: per group and tap a row's, then a column's; then the masks
    rows, columns = height, width - 1
    count = parts * kh * kw
    field = torch.randn(2 * count, rows, columns, dtype=torch.float64)
    mask = torch.rand(count, rows, columns, dtype=torch.float64)
    right = layer.bias[:, None, None].repeat(1, rows, columns)
    for i, j, u, v, c in product(*map(range, (rows, columns, kh, kw, 4))):
        place = c // (4 // parts) * kh * kw + u * kw + v
        down = i - 1 + u + field[2 * place, i, j]
        along = j + v + field[2 * place + 1, i, j]
        value = 0.0
        for a, b in product(range(height), range(width)):
            near = (1 - (down - a).abs()).clamp(min=0) * (1 - (along - b).abs()).clamp(min=0)
            value = value + near * image[c, a, b]
        for d in range(3 * (c // 2), 3 * (c // 2) + 3):
            right[d, i, j] += layer.weight[d, c % 2, 0, u, v] * mask[place, i, j] * value
    sites = sc.nn.SparseConv3d(4, 1, (1, kh, kw), 1, (0, 1, 0)).double()(x)
    row, column = sites.coords[:, 2].long(), sites.coords[:, 3].long()
    planar = field[:, row, column].t().reshape(-1, parts, kh * kw, 2)
    offsets = torch.cat([torch.zeros_like(planar[..., :1]), planar], 3).transpose(1, 2)
    masks = mask[:, row, column].t().reshape(-1, parts, kh * kw).transpose(1, 2)
    given = layer.weight, layer.bias, layer.geometry, sites
    y = deform_conv3d(x, offsets, masks, *given, groups=2)
    torch.testing.assert_close(y.features, right[:, row, column].t(), **EXACT)


@pytest.mark.parametrize("modulated", [False, True])
def test_laws(backend, modulated):
    layer = stirred(DeformConv3d(4, 4, 3, padding="subm", modulated=modulated, offset_groups=2))
    x = scene("random_sparse").tensor(4)
    laws.permutation(layer, x, **EXACT)
    laws.translation(layer, x, (1, -2, 3), **EXACT)
    laws.translation(layer, x, (10**6, -(10**7), 10**8), **EXACT)
    laws.isolation(layer, scene("same_xyz").tensor(4))
    laws.batch_independence(layer, x.unbatch(), **EXACT)


def test_no_sites(backend):
    layer = stirred(DeformConv3d(4, 6, 3, padding="subm", modulated=True))
    x = scene("empty").tensor(4)
    y = layer(x.replace(features=x.features.requires_grad_()))
    y.features.sum().backward()
    assert y.features.shape == (0, 6) and layer.dead_fraction(x) == 0
    assert not layer.conv_offset.weight.grad.any()


@pytest.mark.parametrize("shape", [(3, 1, "subm"), (2, 2, 0)])
def test_dense_input(backend, shape):
    layer = stirred(DeformConv3d(4, 6, *shape, modulated=True))
    x = scene("full_cube").tensor(4)
    right = layer(x).dense(layer.geometry.output_shape(x.spatial_shape))
    torch.testing.assert_close(layer(x.dense()), right, **EXACT)


def test_dead_taps_are_counted(backend):
    coords = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.int32)
    x = sc.SparseTensor(coords, torch.ones(2, 1))
    layer = DeformConv3d(1, 1, (1, 1, 3), padding="subm")
    # of the taps at -1, 0, 1 and at 0, 1, 2 the first and the last read nothing
    assert layer.dead_fraction(x).item() == pytest.approx(2 / 6)
    with torch.no_grad():
        layer.conv_offset.bias.copy_(torch.tensor([0, 0, 0.5] * 3))
    # at -0.5, 0.5, 1.5 and at 0.5, 1.5, 2.5 the last alone
    assert layer.dead_fraction(x).item() == pytest.approx(1 / 6)
    with torch.no_grad():
        layer.conv_offset.bias.fill_(9.0)
    assert layer.dead_fraction(x).item() == 1
    layer(x).features.sum().backward()
    assert not layer.conv_offset.bias.grad.any()


def test_offsets_are_held(backend):
    x = scene("random_sparse").tensor(4)
    layer = DeformConv3d(4, 6, 3, padding="subm", max_offset=0.75, dtype=torch.float64)
    with torch.no_grad():
        layer.conv_offset.bias.copy_(torch.linspace(-50, 50, 81))
    _, offsets, _ = layer.heads(x)
    assert offsets.abs().max() <= 0.75 and offsets.abs().min() < 0.5
    free = torch.linspace(-50, 50, 81, dtype=torch.float64).reshape(27, 1, 3)
    torch.testing.assert_close(offsets[0], 0.75 * torch.tanh(free / 0.75), **EXACT)


def test_autocast_keeps_the_place():
    # at voxel 4001 bfloat16 would read 8 voxels beside
    coords = torch.tensor([[0, 4001, 7, z] for z in range(5)], dtype=torch.int32)
    x = sc.SparseTensor(coords, torch.randn(5, 4), (5000, 8, 8))
    layer = DeformConv3d(4, 6, 3, padding="subm", modulated=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(
        y.features.float(), layer(x).features, **tolerance(torch.bfloat16, "forward")
    )
    y.features.float().sum().backward()
    assert layer.conv_offset.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("options", [{"padding": "subm"}, {"stride": 2, "modulated": True}])
def test_offsets_learn_at_a_rate_of_their_own(backend, options):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    usual = stirred(DeformConv3d(4, 6, 3, **options))
    slow = DeformConv3d(4, 6, 3, **options, offset_lr_mult=0.125).double()
    slow.load_state_dict(usual.state_dict())
    y, z = usual(x).features, slow(x).features
    assert torch.equal(y, z) and "offset_lr_mult=0.125" in repr(slow)
    probe = torch.randn_like(y)
    wanted = torch.autograd.grad(y, (x.features, *usual.parameters()), probe)
    found = torch.autograd.grad(z, (x.features, *slow.parameters()), probe)
    names = ["features", *(name for name, _ in usual.named_parameters())]
    for name, a, b in zip(names, found, wanted, strict=True):
        rate = 0.125 if name.startswith("conv_offset") else 1.0
        torch.testing.assert_close(a, rate * b, **EXACT, msg=name)


def test_sites_of_another_tensor(backend):
    layer = stirred(DeformConv3d(4, 6, 3, 1, 1))
    x = scene("random_sparse").tensor(4)
    grown = layer(x)
    kept = layer(x, x)
    assert len(grown) > len(x)
    rows = grown.lookup(x.coords)
    torch.testing.assert_close(kept.features, grown.features[rows], **EXACT)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"offset_groups": 3}, "offset_groups: expected a divisor of in_channels 4, found 3"),
        ({"max_offset": 0}, "max_offset: expected voxels above 0"),
        ({"offset_lr_mult": float("nan")}, "offset_lr_mult: expected a number of at least 0"),
        ({"padding": "subm", "stride": 2}, "padding: expected a number"),
        ({"groups": 3}, "groups: expected a divisor"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(ValueError, match=words):
        DeformConv3d(4, 6, 3, **change)


def test_refused_input():
    layer = DeformConv3d(4, 6, 3, padding="subm")
    with pytest.raises(ValueError, match="expected 4 channels, found 5"):
        layer(scene("line").tensor(5, torch.float32))
    x, geometry = scene("line").tensor(4, torch.float32), layer.geometry
    with pytest.raises(ValueError, match=r"offsets: expected shape \[M, 27, G, 3\]"):
        deform_conv3d(x, torch.zeros(9, 8, 1, 3), None, layer.weight, None, geometry, x)
    y = layer(x.replace(features=x.features.requires_grad_()))
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(y.features.sum(), x.features, create_graph=True)[0].sum().backward()


def test_what_it_is_called():
    layer = DeformConv3d(4, 6, 3, padding="subm", modulated=True, offset_groups=2)
    assert "offset_groups=2, modulated=True" in repr(layer)
