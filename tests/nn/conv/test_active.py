"""Active convolution against trilinear reading site by site; its effective kernel; identities."""

import copy
from itertools import product

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.geometry import Offsets, parse_key
from sparseconv.tensor.plan import plan
from sparseconv.testing import laws
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

CLOSE = tolerance(torch.float64, "formula")


def formula(layer, x, out, stride=1):
    """Read between sites for every output site and synapse, absent corners being 0."""
    rows = {tuple(c): n for n, c in enumerate(x.coords.tolist())}
    groups, synapses, _ = layer.positions.shape
    width = layer.out_channels // groups
    per = layer.in_channels // layer.groups
    out_rows = []
    for b, *at in out.tolist():
        read = torch.zeros(groups, synapses, layer.in_channels).double()
        for g, t in product(range(groups), range(synapses)):
            p = layer.positions[g, t]
            low = [min(int(v // 1), r - 1) if r else 0 for v, r in zip(p, layer.reach, strict=True)]
            for corner in product((0, 1), repeat=3):
                site = [stride * a + v + c for a, v, c in zip(at, low, corner, strict=True)]
                if (n := rows.get((b, *site))) is None:
                    continue
                share = torch.ones(()).double()
                for a, (c, r) in enumerate(zip(corner, layer.reach, strict=True)):
                    if r == 0:
                        share = share * (1 - c)
                    else:
                        share = share * (p[a] - low[a] if c else 1 - p[a] + low[a])
                read[g, t] = read[g, t] + share * x.features[n]
        y = []
        for d in range(layer.out_channels):
            c = d // (layer.out_channels // layer.groups) * per
            y.append((layer.weight[d] * read[d // width, :, c : c + per].t()).sum())
        out_rows.append(torch.stack(y))
    y = torch.stack(out_rows)
    return y if layer.bias is None else y + layer.bias


def layer_of(channels, width, **kind):
    kind = {"normalize_grad": False, "fix_center": False, **kind}
    return nn.ActiveConv3d(channels, width, **kind, dtype=torch.float64)


def made_of(x, layer):
    return [x.features, *layer.parameters()]


@pytest.mark.parametrize("name", ["empty_batch_item", "one_voxel", "line"])
@pytest.mark.parametrize("kind", [
    {"init": "random", "num_synapses": 5},
    {"init": "random", "num_synapses": 3, "groups": 2, "position_groups": 2, "reach": (1, 2, 3)},
    {"init": "sphere", "bias": False, "reach": 1},
    {"init": "grid", "kernel_size": (1, 2, 3)},
])  # fmt: skip
def test_reading_between_sites(backend, name, kind):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    layer = layer_of(4, 6, **kind)
    y = layer(x)
    assert y.coords is x.coords
    assert_twins(y.features, formula(layer, x, x.coords), made_of(x, layer), **CLOSE)


def test_stride(backend):
    x = scene("line").tensor(2)
    x.features.requires_grad_()
    layer = layer_of(2, 3, init="random", num_synapses=4, stride=2)
    y = layer(x)
    assert {tuple(c) for c in y.coords.tolist()} == {
        (b, *(v // 2 for v in at)) for b, *at in x.coords.tolist()
    }
    assert_twins(y.features, formula(layer, x, y.coords, 2), made_of(x, layer), **CLOSE)
    torch.testing.assert_close(at_sites(layer(grid_of(x)), y), y.features)


def test_the_effective_kernel_is_a_dense_convolution(backend):
    x = scene("random_sparse").tensor(4)
    layer = layer_of(4, 6, init="random", num_synapses=7, groups=2)
    box = torch.zeros(6, 2, 5, 5, 5).double()
    for t, p in enumerate(layer.positions[0].detach()):
        low = p.floor().long()
        for corner in product((0, 1), repeat=3):
            at = low + torch.tensor(corner)
            share = torch.where(torch.tensor(corner).bool(), p - low, 1 - (p - low)).prod()
            i, j, k = (at + 2).tolist()
            box[:, :, i, j, k] += share * layer.weight[:, :, t]
    full = dense.conv3d(grid_of(x), box, layer.bias, 1, 2, 1, 2)
    torch.testing.assert_close(layer(x).features, at_sites(full, x))
    torch.testing.assert_close(layer(grid_of(x)), full)
    frozen = layer.frozen()
    torch.testing.assert_close(frozen(x).features, layer(x).features)
    torch.testing.assert_close(frozen.weight, box)


def test_on_whole_voxels_it_is_a_submanifold_convolution(backend):
    x = scene("random_sparse").tensor(4)
    layer, plain = layer_of(4, 6), nn.SubMConv3d(4, 6, 3, dtype=torch.float64)
    with torch.no_grad():
        plain.weight.copy_(layer.weight.unflatten(2, (3, 3, 3)))
        plain.bias.copy_(layer.bias)
    torch.testing.assert_close(layer(x).features, plain(x).features)
    # and positions still learn
    (grad,) = torch.autograd.grad(layer(x).features.square().sum(), layer.positions)
    assert (grad != 0).all()


def test_moving_all_synapses_moves_the_result(backend):
    x = scene("negative").tensor(4)
    layer = layer_of(4, 5, init="random", num_synapses=6, reach=4)
    moved = copy.deepcopy(layer)
    with torch.no_grad():
        moved.positions += torch.tensor([1.0, -2.0, 0.0])
    shift = torch.tensor([0, 1, -2, 0], dtype=torch.int32)
    target = laws.like(x, x.coords - shift, x.features)
    there = dict(zip(map(tuple, target.coords.tolist()), layer(target).features, strict=True))
    here = dict(zip(map(tuple, x.coords.tolist()), moved(x).features, strict=True))
    both = here.keys() & there.keys()
    assert len(both) > 3
    for site in both:
        torch.testing.assert_close(here[site], there[site])


def test_the_rulebook_follows_the_positions(backend, built):
    x = scene("random_sparse").tensor(4)
    layer = layer_of(4, 4, init="random", num_synapses=2)
    before = layer(x).features
    with built() as seen:
        layer(x)
        with torch.no_grad():
            layer.positions.mul_(0.999).clamp_(-0.99, 0.99)
        layer(x)
    assert not seen.ops
    with torch.no_grad():
        layer.positions.copy_(torch.tensor([[[1.2, -1.7, 0.3], [-0.4, 1.1, -1.9]]]))
    with built() as seen:
        y = layer(x)
    assert seen.ops == ["rulebook"]
    torch.testing.assert_close(y.features, formula(layer, x, x.coords))
    assert not torch.allclose(y.features, before)
    # behind the back of the parameter's version too
    layer.positions.data.copy_(torch.rand(1, 2, 3))
    torch.testing.assert_close(layer(x).features, formula(layer, x, x.coords))


def test_positions_are_held_within_reach(backend):
    x = scene("random_sparse").tensor(4)
    layer = layer_of(4, 4, init="random", num_synapses=2, reach=1)
    with torch.no_grad():
        layer.positions.copy_(torch.tensor([[[9.0, 0.5, 0.5], [-9.0, 0.5, 1.0]]]))
    far = layer(x).features
    with torch.no_grad():
        layer.positions.copy_(torch.tensor([[[1.0, 0.5, 0.5], [-1.0, 0.5, 1.0]]]))
    torch.testing.assert_close(far, layer(x).features)


def test_gradients_of_positions_have_length_one_and_the_centre_stays(backend):
    x = scene("random_sparse").tensor(4)
    layer = nn.ActiveConv3d(4, 4, init="sphere", dtype=torch.float64)
    plain = layer_of(4, 4, init="sphere")
    plain.load_state_dict(layer.state_dict())
    for each in (layer, plain):
        each(x).features.square().sum().backward()
    length = layer.positions.grad.norm(dim=2)
    torch.testing.assert_close(length, torch.tensor([[0.0] + [1.0] * 6]).double())
    direction = dense.normalize(plain.positions.grad, dim=2)
    torch.testing.assert_close(layer.positions.grad[:, 1:], direction[:, 1:])


def test_a_plan_knows_its_rulebooks(backend, built):
    x = scene("random_sparse").tensor(4)
    layer = layer_of(4, 4, init="random", num_synapses=3)
    found = plan(layer, x)
    fresh = found.build(scene("random_sparse").tensor(4))
    with built() as seen:
        layer(fresh)
    assert not seen.ops
    offsets = Offsets(((0, 0, 0), (-1, 2, -30)), (1, 2, 1))
    assert parse_key(offsets.key) == offsets and parse_key(offsets.key).offsets == offsets.offsets


def test_laws(backend):
    x = scene("empty_batch_item").tensor(4)
    layer = layer_of(4, 4, init="random")
    laws.isolation(layer, x)
    laws.permutation(layer, x)
    laws.translation(layer, x, (3, -2, 1))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"init": "spiral"}, "init: expected 'grid', 'sphere' or 'random'"),
        ({"num_synapses": 4}, "num_synapses: expected None or 27, the taps of the grid"),
        ({"groups": 3}, "groups: expected a divisor of in_channels 4 and out_channels 6"),
        ({"position_groups": 4}, "position_groups: expected a divisor of 6 output channels"),
        ({"reach": -1}, "reach: expected values >= 0"),
    ],
)
def test_refusals(kind, words):
    with pytest.raises(ValueError, match=words):
        nn.ActiveConv3d(4, 6, **kind)


def test_refused_uses():
    with pytest.raises(ValueError, match="stride: expected 1, found"):
        nn.ActiveConv3d(4, 6, stride=2).frozen()
    with pytest.raises(ValueError, match="input of ActiveConv3d: expected 4 channels, found 3"):
        nn.ActiveConv3d(4, 6)(scene("line").tensor(3))
