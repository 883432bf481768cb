"""Dimension-wise convolution against dense sums of shifted slices; the published form of images."""

from itertools import product

import pytest
import torch

from sparseconv import nn
from sparseconv.nn.conv.dim import FAMILIES
from sparseconv.testing import laws
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def shifted(grid, steps):
    """grid[b, c + dc, x + dx, ...], zeros from outside."""
    for axis, step in enumerate(steps, 1):
        size = grid.shape[axis]
        zeros = torch.zeros_like(grid.narrow(axis, 0, min(abs(step), size)))
        if step > 0:
            grid = torch.cat([grid, zeros], axis).narrow(axis, step, size)
        elif step < 0:
            grid = torch.cat([zeros, grid], axis).narrow(axis, 0, size)
    return grid


def branch(grid, bank, n, taps, gaps):
    """Slide over all dimensions but the n-th (channels first) with that dimension's kernels."""
    reach = [[(i - k // 2) * g for i in range(k)] for k, g in zip(taps, gaps, strict=True)]
    reach[n] = [0]
    total = 0
    for index in product(*(range(len(r)) for r in reach)):
        steps = [r[i] for r, i in zip(reach, index, strict=True)]
        kernel = bank[(slice(None), *(i for m, i in enumerate(index) if m != n))]
        shape = [1] * grid.dim()
        shape[1 + n] = -1
        total = total + kernel.reshape(shape) * shifted(grid, steps)
    return total


def formula(grid, banks, axes, taps, gaps):
    done = [branch(grid, bank, axes.index(a), taps, gaps) for a, bank in banks]
    return torch.stack(done, 2).flatten(1, 2)


def expected_of(layer, grid, gaps=(1, 1, 1, 1)):
    banks = [(axis, layer.banks[axis]) for axis in layer.axes]
    full = formula(grid, banks, "cxyz", layer.kernel_size, gaps)
    return full if layer.bias is None else full + layer.bias[:, None, None, None]


@pytest.mark.parametrize("name", ["random_sparse", "full_cube", "empty_batch_item", "line"])
@pytest.mark.parametrize(
    ("kernel", "axes", "gaps"),
    [(3, "cxyz", 1), ((5, 1, 3, 3), "zc", (1, 2, 2, 1)), ((1, 3, 5, 3), "xyz", (2, 1, 1, 2))],
)
def test_sums_of_shifted_slices(backend, name, kernel, axes, gaps):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = nn.DimConv3d(4, x.spatial_shape, kernel, axes, gaps, axes == "zc", dtype=torch.float64)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    y = layer(x)
    assert y.coords is x.coords and y.channels == len(axes) * 4 == layer.out_channels
    grid, wide = grid_of(x), (gaps,) * 4 if isinstance(gaps, int) else gaps
    expected = expected_of(layer, grid, wide)
    assert_twins(y.features, at_sites(expected, y), [x.features, *layer.parameters()], **CLOSE)
    torch.testing.assert_close(layer(grid), expected)


def test_the_published_layer(backend):
    image = torch.randn(2, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    layer = nn.DimConv2d(4, 5, 6, 3, (1, 2, 1), dtype=torch.float64)
    done = [
        branch(image, layer.banks[axis], n, (3, 3, 3), (gap,) * 3)
        for n, (axis, gap) in enumerate(zip("chw", (1, 2, 1), strict=True))
    ]
    expected = torch.stack([d[:, c] for c in range(4) for d in done], 1)
    assert_twins(layer(image), expected, [image, *layer.parameters()], **CLOSE)
    with pytest.raises(ValueError, match=r"x: expected \[B, 4, 5, 6\], found \[2, 4, 6, 5\]"):
        layer(image.transpose(2, 3))


def test_a_flat_volume_is_an_image(backend):
    image = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    flat = nn.DimConv2d(4, 5, 6, dtype=torch.float64)
    layer = nn.DimConv3d(4, (1, 5, 6), (3, 1, 3, 3), "cyz", dtype=torch.float64)
    with torch.no_grad():
        layer.banks["c"].copy_(flat.banks["c"][:, None])
        layer.banks["y"].copy_(flat.banks["h"][:, :, None])
        layer.banks["z"].copy_(flat.banks["w"][:, :, None])
    torch.testing.assert_close(layer(image[:, :, None])[:, :, 0], flat(image))


def test_kernels_that_are_the_same_in_all_planes_are_depthwise(backend):
    x = scene("random_sparse").tensor(4)
    layer = nn.DimConv3d(4, x.spatial_shape, (1, 3, 3, 3), "y", dtype=torch.float64)
    kernel = torch.randn(3, 3).double()
    depthwise = nn.DepthwiseConv3d(4, (3, 1, 3), padding="subm", bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.banks["y"].copy_(kernel.expand(8, 1, 3, 3))
        depthwise.weight.copy_(kernel[:, None].expand(4, 1, 3, 1, 3))
    torch.testing.assert_close(layer(x).features, depthwise(x).features)


def test_on_another_lattice_kernels_are_stretched(backend):
    x = scene("plane").tensor(4)
    layer = nn.DimConv3d(4, (3, 5, 2), plane_mode="interpolate", dtype=torch.float64)
    wide = nn.DimConv3d(4, (6, 5, 7), dtype=torch.float64)
    with torch.no_grad():
        for axis, count in zip("cxyz", (4, 3, 5, 2), strict=True):
            for at, bank in enumerate(wide.banks[axis]):
                place = at * (count - 1) / (len(wide.banks[axis]) - 1)
                low = min(int(place), count - 2)
                share, mine = place - low, layer.banks[axis]
                bank.copy_((1 - share) * mine[low] + share * mine[low + 1])
    torch.testing.assert_close(layer(x).features, wide(x).features)
    torch.testing.assert_close(layer(grid_of(x)), wide(grid_of(x)))


def test_laws_but_translation(backend):
    x = scene("empty_batch_item").tensor(4)
    layer = nn.DimConv3d(4, x.spatial_shape, dtype=torch.float64)
    laws.isolation(layer, x)
    laws.permutation(layer, x)
    laws.batch_independence(layer, x.unbatch())


def test_in_a_net_each_channel_meets_its_own_branches(backend):
    x = scene("random_sparse").tensor(4)
    layer = FAMILIES[0].make(4, 4, x.spatial_shape).double()
    dim, joined = layer
    y = layer(x)
    by_channel = dim(x).features.reshape(-1, 4, 4)
    expected = (by_channel * joined.weight.reshape(4, 4)).sum(2) + joined.bias
    torch.testing.assert_close(y.features, expected)
    listened = []
    with joined.register_forward_hook(lambda *given: listened.append(given)):
        torch.testing.assert_close(layer(x).features, expected)
    assert len(listened) == 1
    free = FAMILIES[0].make(4, 6, None).double()
    assert free(x).channels == 6


def test_only_a_layer_that_makes_a_channel_s_branches_one_is_joined():
    dim = nn.DimConv3d(4, 8)
    assert dim.joins(nn.GroupPointwiseConv3d(16, 4, 4)) and dim.joins(
        nn.PointwiseConv3d(16, 4, groups=4)
    )
    for other in (
        nn.GroupPointwiseConv3d(16, 4, 2),
        nn.GroupPointwiseConv3d(16, 8, 4),
        nn.PointwiseConv3d(16, 4, groups=4, stride=2),
        torch.nn.Linear(16, 4),
    ):
        assert not dim.joins(other)
    assert not nn.DimConv3d(4, 8, bias=True).joins(nn.GroupPointwiseConv3d(16, 4, 4))


def test_joined_gradients_are_those_of_two_layers(backend):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    dim = nn.DimConv3d(4, x.spatial_shape, dtype=torch.float64)
    joined = nn.GroupPointwiseConv3d(16, 4, 4, True, dtype=torch.float64)
    net = nn.Sequential(dim, joined)
    leaves = [x.features, *net.parameters()]
    assert_twins(net(x).features, joined(dim(x)).features, leaves, **CLOSE)
    torch.testing.assert_close(net(grid_of(x)), joined(dim(grid_of(x))))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"kernel_size": 2}, "kernel_size: expected odd sizes"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size: expected an int or four \(channels, x, y, z\)"),
        ({"dilation": 0}, "dilation: expected an int or four"),
        ({"axes": "cw"}, "axes: expected some of 'cxyz', each once"),
        ({"axes": "cc"}, "axes: expected some of 'cxyz', each once"),
        ({"axes": ""}, "axes: expected some of 'cxyz'"),
        ({"plane_mode": "nearest"}, "plane_mode: expected 'strict' or 'interpolate'"),
    ],
)
def test_refusals(kind, words):
    with pytest.raises(ValueError, match=words):
        nn.DimConv3d(4, 8, **kind)


def test_refused_lattices():
    layer, x = nn.DimConv3d(4, 8).double(), scene("line").tensor(4)
    with pytest.raises(ValueError, match=r"lattice the layer was made for, \(8, 8, 8\), found \(4"):
        layer(x)
    with pytest.raises(ValueError, match=r"was made for, \(8, 8, 8\), found sites beyond"):
        layer(scene("negative").tensor(4))
    x = scene("random_sparse").tensor(4)
    free = laws.like(x, x.coords, x.features, spatial_shape=None)
    assert torch.equal(layer(free).features, layer(x).features)
    assert nn.DimConv3d(4, 8, axes="c").double()(x).channels == 4
    with pytest.raises(ValueError, match="input of DimConv3d: expected 4 channels, found 3"):
        layer(scene("line").tensor(3))
