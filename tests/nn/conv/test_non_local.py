"""The non-local block equals the whole matrix of affinities, scan by scan."""

import pytest
import torch

import sparseconv as sc
from sparseconv import nn
from sparseconv.functional.non_local import ramp_sum
from sparseconv.nn.conv.non_local import MODES
from sparseconv.testing import laws
from sparseconv.testing.scenes import room, scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}
NAMES = ["random_sparse", "empty_batch_item", "same_xyz", "one_voxel"]


def stirred(layer):
    with torch.no_grad():
        for p in layer.parameters():
            p += 0.4 * torch.randn_like(p)
    return layer


def linear(layer, features):
    return features @ layer.weight.flatten(1).T + layer.bias


def pooled(coords, features):
    """Maxima over the sites present in each block of 2 x 2 x 2."""
    blocks = {}
    for n, (b, *xyz) in enumerate(coords.tolist()):
        blocks.setdefault((b, *(v // 2 for v in xyz)), []).append(n)
    rows = [features[members].amax(0) for members in blocks.values()]
    return torch.tensor([key[0] for key in blocks]), torch.stack(rows)


def by_matrix(layer, coords, x, y_only=False):
    item = coords[:, 0]
    key_item, key_x = pooled(coords, x) if layer.sub_sample else (item, x)
    theta = x if layer.theta is None else linear(layer.theta, x)
    phi = key_x if layer.phi is None else linear(layer.phi, key_x)
    same = item[:, None] == key_item[None]
    if layer.mode == "concat":
        a, b = theta @ layer.affinity[0], phi @ layer.affinity[1]
        f = (a[:, None] + b[None]).relu()
    else:
        f = theta @ phi.T
    if layer.mode in ("dot", "concat"):
        f = f * same / same.sum(1, keepdim=True)
    else:
        f = f * theta.shape[1] ** -0.5 if layer.scale else f
        f = f.masked_fill(~same, -torch.inf).softmax(1)
    y = linear(layer.out, f @ linear(layer.g, key_x))
    if layer.norm is not None:
        n = layer.norm
        y = (y - n.running_mean) / (n.running_var + n.eps).sqrt() * n.weight + n.bias
    return y + x if layer.residual else y


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sub_sample", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_matrix(backend, name, sub_sample, mode):
    x = scene(name).tensor(6)
    x.features.requires_grad_()
    layer = stirred(nn.NonLocal3d(6, mode=mode, sub_sample=sub_sample, **WIDE)).eval()
    expected = by_matrix(layer, x.coords, x.features)
    leaves = [x.features, *layer.parameters()]
    assert_twins(layer(x).features, expected, leaves)


def test_options(backend):
    x = scene("random_sparse").tensor(6)
    options = {"scale": True, "norm": None, "residual": False, "inter_channels": 5}
    layer = stirred(nn.NonLocal3d(6, **options, **WIDE))
    torch.testing.assert_close(layer(x).features, by_matrix(layer, x.coords, x.features))


def test_an_odd_extent_loses_no_site_when_sampled():
    x = sc.SparseTensor(torch.tensor([[0, 4, 4, 4]]).int(), torch.randn(1, 4).double(), (5, 5, 5))
    layer = stirred(nn.NonLocal3d(4, mode="dot", sub_sample=True, norm=None, **WIDE))
    torch.testing.assert_close(layer(x).features, by_matrix(layer, x.coords, x.features))


@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("mode", MODES)
def test_as_made_it_changes_nothing(mode, norm):
    x = scene("random_sparse").tensor(6)
    layer = nn.NonLocal3d(6, mode=mode, norm=norm, **WIDE)
    assert torch.equal(layer(x).features, x.features)


@pytest.mark.parametrize("mode", MODES)
def test_a_dense_tensor_is_a_full_grid(mode):
    x = scene("full_cube").tensor(6)
    layer = stirred(nn.NonLocal3d(6, mode=mode, **WIDE)).eval()
    torch.testing.assert_close(at_sites(layer(grid_of(x)), x), layer(x).features)


@pytest.mark.parametrize("mode", MODES)
def test_scans_do_not_meet(backend, mode):
    layer = stirred(nn.NonLocal3d(6, mode=mode, **WIDE)).eval()
    laws.isolation(layer, scene("random_sparse").tensor(6))
    x = scene("same_xyz").tensor(6)
    broken = x.features.clone()
    broken[x.coords[:, 0] == 0] = torch.nan
    found = layer(x.replace(features=broken)).features[x.coords[:, 0] == 1]
    torch.testing.assert_close(found, layer(x).features[x.coords[:, 0] == 1])


@pytest.mark.parametrize("mode", ["dot", "concat"])
def test_many_sites_in_float32(mode):
    coords = room(2000)
    coords[::3, 0] = 1
    x = sc.SparseTensor(coords, torch.randn(len(coords), 8) + 3, batch_size=2)
    layer = stirred(nn.NonLocal3d(8, mode=mode, norm=None)).eval()
    wide = stirred(nn.NonLocal3d(8, mode=mode, norm=None, **WIDE))
    wide.load_state_dict(layer.state_dict())
    expected = by_matrix(wide, coords, x.features.double())
    gap = (layer(x).features - expected).abs().max() / expected.abs().max()
    assert gap < 3e-6


def test_ramps_at_their_kink_and_ties():
    # keys equal to a bound add nothing; equal keys are told apart by none
    x = sc.SparseTensor(torch.tensor([[0, 0, 0, z] for z in range(4)]).int(), torch.ones(4, 1))
    a = torch.tensor([-1.0, 0.0, 1.0, -3.0])
    b = torch.tensor([1.0, 1.0, -1.0, 2.0])
    values = torch.eye(4)
    found = ramp_sum(a, b, values, x, x)
    expected = (a[:, None] + b[None]).relu() / 4
    torch.testing.assert_close(found, expected)


def test_refusals():
    x = scene("random_sparse").tensor(6)
    with pytest.raises(ValueError, match="mode: expected one of gaussian"):
        nn.NonLocal3d(6, mode="sum")
    with pytest.raises(ValueError, match="norm"):
        nn.NonLocal3d(6, norm="layer")
    with pytest.raises(ValueError, match=r"x: expected at most max_tokens=10.*mode='dot'"):
        nn.NonLocal3d(6, max_tokens=10, **WIDE)(x)
    nn.NonLocal3d(6, mode="dot", max_tokens=10, **WIDE)(x)
    with pytest.raises(ValueError, match="input of NonLocal3d"):
        nn.NonLocal3d(5)(x)
