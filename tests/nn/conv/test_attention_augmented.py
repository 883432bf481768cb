"""Attention-augmented convolution equals explicit relative logits, scan by scan."""

import pytest
import torch

import sparseconv as sc
from sparseconv import nn
from sparseconv.testing import laws
from sparseconv.testing.oracle import Spec, dense_conv
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}
NAMES = ["random_sparse", "empty_batch_item", "same_xyz", "one_voxel"]


def stirred(layer):
    with torch.no_grad():
        for p in layer.parameters():
            p += 0.4 * torch.randn_like(p)
    return layer


def attended(layer, coords, x, blocks=None, centres=None):
    """Logit by logit: every pair of sites of a scan, every head."""
    heads, dk, dv = layer.num_heads, layer.dk, layer.dv
    blocks, centres = (coords, x) if blocks is None else (blocks, centres)
    qkv, asked = (t @ layer.qkv.weight.flatten(1).T + layer.qkv.bias for t in (x, centres))
    found = torch.zeros(len(blocks), dv, **WIDE)
    for item in coords[:, 0].unique():
        mine, ours = ((c[:, 0] == item).nonzero()[:, 0] for c in (coords, blocks))
        at = coords[mine, 1:].long()
        here = blocks[ours, 1:].long() * torch.tensor(layer.stride)
        outs = []
        for h in range(heads):
            e, f = dk // heads, dv // heads
            q = asked[ours, h * e : (h + 1) * e]
            k = qkv[mine, dk + h * e : dk + (h + 1) * e]
            v = qkv[mine, 2 * dk + h * f : 2 * dk + (h + 1) * f]
            logits = q @ k.T
            if layer.relative:
                for axis, name in enumerate("xyz"):
                    table = getattr(layer, f"relative_{name}")
                    most = len(table) // 2
                    step = at[None, :, axis] - here[:, None, axis]
                    assert layer.clip or step.abs().max() <= most
                    step = step.clamp(-most, most) + most
                    logits = logits + torch.einsum("ie,ije->ij", q, table[step])
            outs.append((logits / e**0.5).softmax(1) @ v)
        found = found.index_put((ours,), torch.cat(outs, 1))
    return found @ layer.out.weight.flatten(1).T + layer.out.bias


CASES = {
    "relative": {"dk": 4, "dv": 2, "num_heads": 2},
    "one head": {"dk": 3, "dv": 5, "num_heads": 1},
    "no positions": {"dk": 4, "dv": 4, "num_heads": 2, "relative": False},
    "attention alone": {"dk": 4, "dv": 6, "num_heads": 2},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_every_pair(backend, name, case):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    shape = tuple(n + 1 for n in x.spatial_shape)
    layer = stirred(nn.AAConv3d(4, 6, 3, **CASES[case], spatial_shape=shape, **WIDE))
    expected = attended(layer, x.coords, x.features)
    if layer.conv is not None:
        spec = Spec.of(3, 1, "same")
        near = dense_conv(grid_of(x), layer.conv.weight, layer.conv.bias, spec, 1)
        expected = torch.cat([at_sites(near, x), expected], 1)
    leaves = [x.features, *layer.parameters()]
    assert_twins(layer(x).features, expected, leaves)


@pytest.mark.parametrize(("stride", "kernel"), [(2, 3), ((1, 2, 3), 3), (2, 2)])
@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "one_voxel"])
def test_a_stride_asks_from_the_blocks(backend, name, stride, kernel):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    options = {"spatial_shape": x.spatial_shape, "stride": stride}
    layer = stirred(nn.AAConv3d(4, 6, kernel, 4, 2, 2, **options, **WIDE))
    y = layer(x)
    step = layer.stride
    known = {tuple(c): n for n, c in enumerate(x.coords.tolist())}
    within = {}
    for (b, *at), n in known.items():
        block = (b, *(v // s for v, s in zip(at, step, strict=True)))
        within.setdefault(block, []).append(n)
    assert {tuple(c) for c in y.coords.tolist()} == set(within)
    assert y.spatial_shape == tuple(-(-n // s) for n, s in zip(x.spatial_shape, step, strict=True))
    centres = []
    for b, *at in y.coords.tolist():
        first = known.get((b, *(v * s for v, s in zip(at, step, strict=True))))
        rows = within[(b, *at)] if first is None else [first]
        centres.append(x.features[rows].mean(0))
    # the far side of an even kernel needs a voxel more
    ends = ((kernel - 1) // 2, kernel // 2) * 3
    grid, spec = torch.nn.functional.pad(grid_of(x), ends), Spec.of(kernel, step, 0)
    near = dense_conv(grid, layer.conv.weight, layer.conv.bias, spec, 1)
    expected = attended(layer, x.coords, x.features, y.coords, torch.stack(centres))
    expected = torch.cat([at_sites(near, y), expected], 1)
    leaves = [x.features, *layer.parameters()]
    assert_twins(y.features, expected, leaves)


def test_a_stride_without_values_and_of_dense_tensors(backend):
    x = scene("full_cube").tensor(4)
    plain = nn.AAConv3d(4, 6, 3, dk=4, dv=0, num_heads=2, stride=2, **WIDE)
    spec = Spec.of(3, 2, 1)
    near = dense_conv(grid_of(x), plain.conv.weight, plain.conv.bias, spec, 1)
    y = plain(x)
    torch.testing.assert_close(y.features, at_sites(near, y))
    both = stirred(nn.AAConv3d(4, 6, 3, 4, 2, 2, relative=False, stride=2, **WIDE))
    grid = both(grid_of(x))
    assert grid.shape[2:] == near.shape[2:]
    torch.testing.assert_close(at_sites(grid, y), both(x).features)
    assert "stride=(2, 2, 2)" in repr(both)


def test_beyond_clipped_tables_all_is_equally_far(backend):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    options = {"spatial_shape": (3, 2, 1), "clip": True}
    layer = stirred(nn.AAConv3d(4, 6, 3, 4, 6, 2, **options, **WIDE))
    expected = attended(layer, x.coords, x.features)
    leaves = [x.features, *layer.parameters()]
    assert_twins(layer(x).features, expected, leaves)
    # tables that reach everything are not clipped
    options["spatial_shape"] = x.spatial_shape
    layer = stirred(nn.AAConv3d(4, 6, 3, 4, 6, 2, **options, **WIDE))
    y = layer(x).features
    layer.clip = False
    torch.testing.assert_close(layer(x).features, y)


def test_without_values_a_plain_convolution(backend):
    x = scene("random_sparse").tensor(4)
    layer = nn.AAConv3d(4, 6, 3, dk=4, dv=0, num_heads=2, **WIDE)
    assert torch.equal(layer(x).features, layer.conv(x).features)
    assert {n.split(".")[0] for n, _ in layer.named_parameters()} == {"conv"}


def test_tables_of_zero_do_not_know_where_sites_lie(backend):
    x = scene("random_sparse").tensor(4)
    layer = stirred(nn.AAConv3d(4, 6, 3, 4, 6, 2, spatial_shape=8, **WIDE))
    with torch.no_grad():
        for axis in "xyz":
            getattr(layer, f"relative_{axis}").zero_()
    mirrored = x.coords.clone()
    mirrored[:, 1:] = 7 - mirrored[:, 1:]
    moved = sc.SparseTensor(mirrored, x.features, (8, 8, 8), 3)
    torch.testing.assert_close(layer(moved).features, layer(x).features)


def test_of_large_tables_the_middle_is_read(backend):
    x = scene("random_sparse").tensor(4)
    x.features.requires_grad_()
    large = stirred(nn.AAConv3d(4, 6, 3, 4, 6, 2, spatial_shape=(50, 40, 30), **WIDE))
    expected = attended(large, x.coords, x.features)
    y = large(x).features
    leaves = [x.features, *large.parameters()]
    assert_twins(y, expected, leaves)
    # of the large tables nothing is computed that this lattice cannot meet
    (grad,) = torch.autograd.grad(large(x).features.square().sum(), large.relative_x)
    most = x.spatial_shape[0]
    assert grad[50 - most : 49 + most].any() and not grad[: 50 - most].any()


def test_moves_with_the_sites_inside_the_extents(backend):
    coords = scene("random_sparse").coords
    x = sc.SparseTensor(coords, torch.randn(len(coords), 4, **WIDE), (12, 12, 12), 3)
    step = torch.tensor([0, 1, 3, 4], dtype=torch.int32)
    moved = sc.SparseTensor(coords + step, x.features, (12, 12, 12), 3)
    layer = stirred(nn.AAConv3d(4, 6, 3, 4, 2, 2, spatial_shape=12, **WIDE))
    torch.testing.assert_close(layer(moved).features, layer(x).features)


def test_a_dense_tensor_is_a_full_grid():
    x = scene("full_cube").tensor(4)
    layer = stirred(nn.AAConv3d(4, 6, 3, 4, 2, 2, spatial_shape=(4, 3, 5), **WIDE))
    torch.testing.assert_close(at_sites(layer(grid_of(x)), x), layer(x).features)


def test_scans_do_not_meet(backend):
    layer = stirred(nn.AAConv3d(4, 6, 3, 4, 2, 2, spatial_shape=8, **WIDE))
    laws.isolation(layer, scene("random_sparse").tensor(4))


def test_refusals():
    with pytest.raises(ValueError, match="dv: expected 0 to out_channels 6"):
        nn.AAConv3d(4, 6, 3, 4, 8, 2, relative=False)
    with pytest.raises(ValueError, match="num_heads: expected a divisor of dk 4 and dv 3"):
        nn.AAConv3d(4, 6, 3, 4, 3, 2, relative=False)
    with pytest.raises(ValueError, match="spatial_shape: expected three extents"):
        nn.AAConv3d(4, 6, 3, 4, 2, 2)
    layer = nn.AAConv3d(4, 6, 3, 4, 2, 2, spatial_shape=7, **WIDE)
    with pytest.raises(ValueError, match=r"spatial_shape: expected at most \(7, 7, 7\)"):
        layer(scene("random_sparse").tensor(4))
    with pytest.raises(ValueError, match="spatial_shape: expected at most"):
        layer(scene("negative").tensor(4))
    assert "spatial_shape=(7, 7, 7)" in repr(layer)
    layer.clip = True
    with pytest.raises(ValueError, match=r"spatial_shape: expected at most .* found None"):
        layer(scene("negative").tensor(4))
