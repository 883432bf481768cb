"""Versions 3 and 4 of deformable convolution equal per-tap sampling of masked grids."""

from itertools import product

import pytest
import torch
from torch.nn import functional as dense

import sparseconv as sc
from sparseconv.functional.sample import tap_grid, weighted_samples
from sparseconv.geometry import Geometry
from sparseconv.nn.conv.dcnv3 import DCNv3_3d
from sparseconv.nn.conv.dcnv4 import DCNv4_3d
from sparseconv.testing import laws, oracle
from sparseconv.testing.between import grid_of, read_between
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance

EXACT = {"rtol": 1e-9, "atol": 1e-9}
C = 4


def stirred(layer, spread=0.3):
    """Draw every parameter, so that all heads are at work and taps move by a voxel or so."""
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=spread)
    return layer.double()


def lines(spec):
    """Where the centre of an output site's window lies, and the taps about it."""
    half = [d * (k - 1) // 2 for d, k in zip(spec.dilation, spec.kernel, strict=True)]
    about = [
        [t * d - h for t, d, h in zip(tap, spec.dilation, half, strict=True)] for tap in spec.taps
    ]
    return half, torch.tensor(about, dtype=torch.float64)


def centres(sites, spec, half):
    placed = [
        [o * s - p + h for o, s, p, h in zip(site[1:], spec.stride, spec.left, half, strict=True)]
        for site in sites
    ]
    return torch.tensor(placed, dtype=torch.float64).reshape(-1, 3)


def around(layer, x, sites, spec):
    """The depthwise convolution of the zero-filled grid, centred on the windows of the layer."""
    conv, half = layer.dw_conv, lines(spec)[0]
    grid = grid_of(x.features, x.coords, x.batch_size, x.spatial_shape)
    rows = []
    for tap in product(*(range(k) for k in conv.kernel_size)):
        place = [t - (k - 1) // 2 for t, k in zip(tap, conv.kernel_size, strict=True)]
        at = centres(sites, spec, half) + torch.tensor(place)
        at = at[:, None, None]
        read = read_between(grid, [site[0] for site in sites], at)[:, 0]
        rows.append(read * conv.weight[:, 0][(slice(None), *tap)])
    return torch.stack(rows).sum(0) + conv.bias


def sampled(layer, x, sites, spec, query, values, softmax):
    """The sum over moved taps, from the published order of the heads' rows."""
    groups, half_about = layer.groups, lines(spec)
    half, about = half_about
    if layer.remove_center:
        about = torch.cat([about[: len(about) // 2], about[len(about) // 2 + 1 :]])
    taps = len(about)
    if softmax:
        offsets = dense.linear(query, layer.offset.weight, layer.offset.bias)
        offsets = offsets.reshape(-1, groups, taps, 3)
        mask = dense.linear(query, layer.mask.weight, layer.mask.bias)
        mask = mask.reshape(-1, groups, taps).softmax(2)
    else:
        both = dense.linear(query, layer.offset_mask.weight, layer.offset_mask.bias)
        both = both.reshape(-1, groups, 4 * taps)
        offsets, mask = both[..., : 3 * taps].reshape(-1, groups, taps, 3), both[..., 3 * taps :]
    moved = layer.offset_scale * (about + offsets)
    positions = centres(sites, spec, half)[:, None, None] + moved
    grid = grid_of(values, x.coords, x.batch_size, x.spatial_shape)
    read = read_between(grid, [site[0] for site in sites], positions.transpose(1, 2))
    weights = mask.transpose(1, 2).repeat_interleave(values.shape[1] // groups, 2)
    total = (read * weights).sum(1)
    if not getattr(layer, "renormalize", False):
        return total
    there = grid_of(torch.ones_like(values), x.coords, x.batch_size, x.spatial_shape)
    there = read_between(there, [site[0] for site in sites], positions.transpose(1, 2))
    return total / (there * weights).sum(1)


def mixed(layer, z, values, query):
    if layer.center_scale is None:
        return z
    share = torch.sigmoid(dense.linear(query, layer.center_scale.weight, layer.center_scale.bias))
    share = share.repeat_interleave(z.shape[1] // layer.groups, 1)
    return z * (1 - share) + values * share


def third(layer, x, sites, spec):
    u = around(layer, x, sites, spec)
    if isinstance(layer.norm, torch.nn.LayerNorm):
        u = dense.layer_norm(u, (C,), layer.norm.weight, layer.norm.bias, 1e-6)
    u = layer.act(u)
    values = dense.linear(x.features, layer.input_proj.weight, layer.input_proj.bias)
    z = sampled(layer, x, sites, spec, u, values, True)
    z = mixed(layer, z, values, u)
    return dense.linear(z, layer.output_proj.weight, layer.output_proj.bias)


def fourth(layer, x, sites, spec):
    query = x.features if layer.dw_conv is None else around(layer, x, sites, spec)
    values = x.features
    if layer.value_proj is not None:
        values = dense.linear(values, layer.value_proj.weight, layer.value_proj.bias)
    z = sampled(layer, x, sites, spec, query, values, False)
    z = mixed(layer, z, values, z)
    if layer.output_proj is None:
        return z
    return dense.linear(z, layer.output_proj.weight, layer.output_proj.bias)


CASES = {
    "v3": (DCNv3_3d, {"groups": 2}),
    "v3 mixed": (DCNv3_3d, {"center_feature_scale": True, "groups": 2, "remove_center": True}),
    "v3 wide": (
        DCNv3_3d,
        {"offset_scale": 1.5, "dw_kernel_size": (1, 3, 5), "dilation": (1, 2, 1)},
    ),
    "v3 even": (DCNv3_3d, {"kernel_size": (2, 3, 1), "groups": 1}),
    "v3 strided": (DCNv3_3d, {"stride": 2, "padding": 1, "groups": 2, "offset_scale": 2.0}),
    "v3 halving": (DCNv3_3d, {"kernel_size": 2, "stride": 2, "padding": 0, "groups": 1}),
    "v3 of those there are": (DCNv3_3d, {"groups": 2, "renormalize": True, "act": "silu"}),
    "v3 without a norm": (DCNv3_3d, {"norm": None, "act": "relu"}),
    "v4": (DCNv4_3d, {"groups": 2}),
    "v4 mixed": (DCNv4_3d, {"center_feature_scale": True, "groups": 2, "remove_center": True}),
    "v4 bare": (DCNv4_3d, {"without_pointwise": True, "offset_scale": 0.5}),
    "v4 depthwise": (DCNv4_3d, {"dw_kernel_size": 3, "stride": (2, 1, 2), "padding": 1}),
}


@pytest.mark.parametrize("case", CASES)
def test_forward_and_gradients(backend, case):
    kind, options = CASES[case]
    layer = stirred(kind(C, **options))
    x = scene("random_sparse").tensor(C)
    x = sc.SparseTensor(x.coords[:20], x.features[:20], x.spatial_shape, x.batch_size)
    features = x.features.requires_grad_()
    padding = options.get("padding", "same")
    shape = options.get("kernel_size", 3), options.get("stride", 1), padding
    spec = oracle.Spec.of(*shape, options.get("dilation", 1))
    sites = oracle.sites_of(x.coords)
    if padding != "same":
        sites = oracle.conv_sites(sites, spec, x.spatial_shape)
    y = layer(x)
    assert oracle.sites_of(y.coords) == sites
    right = (third if kind is DCNv3_3d else fourth)(layer, x, sites, spec)
    torch.testing.assert_close(y.features, right, **EXACT)
    leaves, probe = (features, *layer.parameters()), torch.randn_like(right)
    ours = torch.autograd.grad(y.features, leaves, probe)
    wanted = torch.autograd.grad(right, leaves, probe)
    for a, b in zip(ours, wanted, strict=True):
        assert b.any()
        torch.testing.assert_close(a, b, **EXACT)


def test_at_first_the_third_is_a_mean_over_all_taps(backend):
    x = scene("random_sparse").tensor(C)
    layer = DCNv3_3d(C, dtype=torch.float64)
    values = layer.input_proj(x.features)
    book = sc.rulebook(x, 3)
    ones = torch.eye(C, dtype=torch.float64).expand(27, C, C) / 27
    mean = sc.convolve(x.replace(features=values), ones, None, book).features
    torch.testing.assert_close(layer(x).features, layer.output_proj(mean), **EXACT)


def test_at_first_a_renormalised_third_is_a_mean_of_the_taps_there_are(backend):
    x = scene("random_sparse").tensor(C)
    layer = DCNv3_3d(C, renormalize=True, dtype=torch.float64)
    near = layer.input_proj(x.features)
    right = torch.zeros_like(near)
    for i, (b, *site) in enumerate(x.coords.tolist()):
        apart = (x.coords[:, 1:] - torch.tensor(site)).abs().amax(1)
        right[i] = near[(x.coords[:, 0] == b) & (apart <= 1)].mean(0)
    torch.testing.assert_close(layer(x).features, layer.output_proj(right), **EXACT)


@pytest.mark.parametrize("kind", [DCNv3_3d, DCNv4_3d])
def test_offsets_learn_at_a_rate_of_their_own(backend, kind):
    x = scene("random_sparse").tensor(C)
    x.features.requires_grad_()
    usual, slow = stirred(kind(C)), kind(C, offset_lr_mult=0.25).double()
    slow.load_state_dict(usual.state_dict())
    y, z = usual(x).features, slow(x).features
    assert torch.equal(y, z)
    probe = torch.randn_like(y)
    wanted = torch.autograd.grad(y, (x.features, *usual.parameters()), probe)
    found = torch.autograd.grad(z, (x.features, *slow.parameters()), probe)
    names = ["features", *(name for name, _ in usual.named_parameters())]
    for name, a, b in zip(names, found, wanted, strict=True):
        if name.startswith("offset"):
            assert b.any()
            offsets = torch.ones(len(b), dtype=bool)
            if kind is DCNv4_3d:
                offsets = torch.arange(len(b)) % 108 < 81
            b = b.clone()
            b[offsets] *= 0.25
        torch.testing.assert_close(a, b, **EXACT, msg=name)
    assert "offset_lr_mult=0.25" in repr(slow)


def test_hooks_of_the_norm_see_it(backend):
    x, seen = scene("random_sparse").tensor(C), []
    layer = stirred(DCNv3_3d(C))
    right = layer(x).features
    layer.norm.register_forward_hook(lambda module, given, made: seen.append(made))
    torch.testing.assert_close(layer(x).features, right, **EXACT)
    assert len(seen) == 1


def test_a_norm_in_pieces_is_one_norm(monkeypatch):
    monkeypatch.setattr("sparseconv.nn.conv._normed.PIECE", 8)
    test_forward_and_gradients(None, "v3")


def test_at_first_the_fourth_is_its_bias_and_the_heads_alone_learn(backend):
    x = scene("random_sparse").tensor(C)
    x.features.requires_grad_()
    layer = DCNv4_3d(C, dtype=torch.float64)
    torch.nn.init.normal_(layer.output_proj.bias)
    y = layer(x).features
    assert torch.equal(y, layer.output_proj.bias.expand_as(y))
    y.square().sum().backward()
    assert not x.features.grad.any() and layer.offset_mask.weight.grad.any()


@pytest.mark.parametrize("name", ["random_sparse", "full_cube", "one_voxel"])
def test_constant_masks_are_a_depthwise_kernel_of_each_group(backend, name):
    x = scene(name).tensor(C)
    layer = DCNv4_3d(C, groups=2, without_pointwise=True, dtype=torch.float64)
    kernel = torch.randn(2, 27, dtype=torch.float64)
    with torch.no_grad():
        layer.offset_mask.bias.view(2, 108)[:, 81:] = kernel
    plain = sc.nn.SubMConv3d(C, C, 3, groups=C, bias=False, dtype=torch.float64)
    with torch.no_grad():
        plain.weight.copy_(kernel.repeat_interleave(2, 0).reshape(C, 1, 3, 3, 3))
    torch.testing.assert_close(layer(x).features, plain(x).features, **EXACT)


def test_the_third_is_the_fourth_with_a_softmax(backend):
    x = scene("random_sparse").tensor(C)
    three = stirred(DCNv3_3d(C, groups=2))
    u = three.act(three.norm(three.around(x, x)))
    values = three.input_proj(x.features)
    offsets = three.offset(u).reshape(-1, 2, 27, 3).transpose(1, 2)
    logits = three.mask(u).reshape(-1, 2, 27)
    weights = (logits.exp() / logits.exp().sum(2, keepdim=True)).transpose(1, 2)
    grid = tap_grid(Geometry.submanifold(3))
    core = weighted_samples(x.replace(features=values), offsets, weights, grid, x).features
    torch.testing.assert_close(three(x).features, three.output_proj(core), **EXACT)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_planar_arithmetic(backend, scale):
    # an image as a slab; published taps run along the width first, and offsets are (dw, dh)
    height, width, k, groups, stride = 3, 4, 3, 2, 2
    image = torch.randn(C, height, width, dtype=torch.float64)
    coords = torch.cartesian_prod(*(torch.arange(n) for n in (1, 1, height, width))).int()
    x = sc.SparseTensor(coords, image.reshape(C, -1).t(), (1, height, width), 1)
    layer = DCNv4_3d(
        C, (1, k, k), stride, (0, 1, 1), groups=groups, offset_scale=scale, dw_kernel_size=1
    ).double()
    out = layer.target(x, None)
    rows, columns = (height - 1) // stride + 1, (width - 1) // stride + 1
    assert len(out) == rows * columns
    field = torch.randn(rows, columns, groups, k * k, 2, dtype=torch.float64)
    mask = torch.randn(rows, columns, groups, k * k, dtype=torch.float64)
    right = torch.zeros(C, rows, columns, dtype=torch.float64)
    for i, j, c, a, b in product(*map(range, (rows, columns, C, k, k))):
        g, place = c // (C // groups), a * k + b
        along = j * stride + scale * (a - 1 + field[i, j, g, place, 0])
        down = i * stride + scale * (b - 1 + field[i, j, g, place, 1])
        for h, w in product(range(height), range(width)):
            near = (1 - (down - h).abs()).clamp(min=0) * (1 - (along - w).abs()).clamp(min=0)
            right[c, i, j] += mask[i, j, g, place] * near * image[c, h, w]
    # to our order: x, y, z with the height as y and the width as z, both of taps and of offsets
    row, column = out.coords[:, 2].long(), out.coords[:, 3].long()
    turned = field[row, column].reshape(-1, groups, k, k, 2).transpose(2, 3).flip(-1)
    offsets = torch.cat([torch.zeros_like(turned[..., :1]), turned], -1)
    offsets = scale * offsets.reshape(-1, groups, k * k, 3).transpose(1, 2)
    weights = mask[row, column].reshape(-1, groups, k, k).transpose(2, 3)
    weights = weights.reshape(-1, groups, k * k).transpose(1, 2)
    steps = tap_grid(layer.geometry, scale)
    found = weighted_samples(x, offsets, weights, steps, out, layer.geometry.stride)
    torch.testing.assert_close(found.features, right[:, row, column].t(), **EXACT)


@pytest.mark.parametrize("kind", [DCNv3_3d, DCNv4_3d])
def test_laws(backend, kind):
    layer = stirred(kind(C, center_feature_scale=True))
    x = scene("random_sparse").tensor(C)
    laws.permutation(layer, x, **EXACT)
    laws.translation(layer, x, (1, -2, 10**8), **EXACT)
    laws.isolation(layer, scene("same_xyz").tensor(C))
    laws.batch_independence(layer, x.unbatch(), **EXACT)
    strided = stirred(kind(C, 2, stride=2, padding=0, dw_kernel_size=2))
    laws.translation(strided, x, (2, -4, 6), (0.5, 0.5, 0.5), **EXACT)


@pytest.mark.parametrize("kind", [DCNv3_3d, DCNv4_3d])
def test_no_sites_and_dense_input(backend, kind):
    layer = stirred(kind(C, 2, stride=2, padding=0, dw_kernel_size=2))
    assert layer(scene("empty").tensor(C)).features.shape == (0, C)
    x = scene("full_cube").tensor(C)
    right = layer(x).dense(layer.geometry.output_shape(x.spatial_shape))
    torch.testing.assert_close(layer(x.dense()), right, **EXACT)
    kept = layer(x, layer(x))
    torch.testing.assert_close(kept.features, layer(x).features, **EXACT)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        (DCNv3_3d, {"groups": 3}, "groups: expected a divisor of channels 4, found 3"),
        (DCNv3_3d, {"act": "sine"}, "act: expected one of gelu"),
        (DCNv3_3d, {"norm": "group"}, "norm: expected 'layer'"),
        (DCNv3_3d, {"offset_scale": 0}, "offset_scale: expected a number above 0"),
        (DCNv3_3d, {"stride": 2}, "padding: expected a number where stride is not 1"),
        (DCNv3_3d, {"kernel_size": 2, "remove_center": True}, "kernel_size: expected odd"),
        (DCNv3_3d, {"padding": 1, "center_feature_scale": True}, "center_feature_scale: expected"),
        (DCNv3_3d, {"padding": 0, "dw_kernel_size": 1}, r"dw_kernel_size: expected at least \(3"),
        (DCNv4_3d, {"stride": 2, "padding": 1}, "dw_kernel_size: expected a size.*heads need"),
        (DCNv4_3d, {"groups": 0}, "groups: expected a divisor"),
        (DCNv4_3d, {"offset_lr_mult": -1}, "offset_lr_mult: expected a number of at least 0"),
    ],
)
def test_refusals(kind, change, words):
    with pytest.raises(ValueError, match=words):
        kind(4, **change)


def test_refused_sites():
    x = scene("random_sparse").tensor(4, torch.float32)
    other = sc.SparseTensor(x.coords[:5], x.features[:5], x.spatial_shape, x.batch_size)
    with pytest.raises(ValueError, match="sites: expected those of the input"):
        DCNv4_3d(4)(x, other)
    assert "groups=4" in repr(DCNv3_3d(4)) and "padding='subm'" in repr(DCNv4_3d(4))


@pytest.mark.parametrize("kind", [DCNv3_3d, DCNv4_3d])
def test_options_in_a_traced_graph(kind):
    options = {"renormalize": True} if kind is DCNv3_3d else {}
    layer = stirred(kind(C, offset_lr_mult=0.5, **options)).float()
    x = scene("random_sparse").tensor(C, torch.float32)
    torch._dynamo.reset()

    def run(features):
        return layer(x.replace(features=features)).features

    traced = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
    found = []
    for call in (run, traced):
        features = x.features.clone().requires_grad_()
        y = call(features)
        leaves = (features, *layer.parameters())
        found.append((y, *torch.autograd.grad(y.square().sum(), leaves)))
    for a, b in zip(*found, strict=True):
        scale = b.abs().max().clamp(min=1)
        torch.testing.assert_close(a / scale, b / scale, **tolerance(torch.float32, "traced"))
    torch._dynamo.reset()
