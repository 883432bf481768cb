"""Octave convolution against torch's dense pooling and convolutions, and against loops."""

import pytest
import torch
from torch.nn import functional as dense

from sparseconv import nn
from sparseconv.functional.octave import OctTensor, join_octaves, split_octaves
from sparseconv.nn.conv.octave import SplitOctaveConv3d
from sparseconv.testing import laws
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance
from sparseconv.testing.twins import assert_twins, at_sites, grid_of, occupied

CLOSE = tolerance(torch.float64, "formula")


def parts_of(x, low=2):
    """Both parts, leaves that want gradients, of a scene."""
    parts = split_octaves(x, low)
    high, low = (p.features.detach().clone().requires_grad_() for p in (parts.high, parts.low))
    return OctTensor(parts.high.replace(features=high), parts.low.replace(features=low))


def leaves(parts, layer):
    return [parts.high.features, parts.low.features, *layer.parameters()]


def mean(grid, there, size):
    """Mean over the cells of a block that are occupied, 0 where none is."""
    for axis in (2, 3, 4):
        parts = [(g.split(size, axis)) for g in (grid, there)]
        grid, there = (torch.stack([p.sum(axis) for p in each], axis) for each in parts)
    return grid / there.clamp(min=1)


def up(grid, like):
    for axis in (2, 3, 4):
        grid = grid.repeat_interleave(2, axis).narrow(axis, 0, like.shape[axis])
    return grid


def convolved(path, grid):
    if path is None:
        return 0
    pad = [d * (k - 1) // 2 for d, k in zip(path.dilation, path.kernel_size, strict=True)]
    return dense.conv3d(grid, path.weight, path.bias, 1, pad, path.dilation, path.groups)


def formula(layer, high, low, high_there, low_there):
    """Equation 4 on zero-filled grids; every stage is read at its sites alone."""
    hh, hl, lh, ll = (
        getattr(layer, name)
        for name in ("high_to_high", "high_to_low", "low_to_high", "low_to_low")
    )
    if layer.stride == 1:
        y_high = convolved(hh, high) + up(convolved(lh, low) * low_there, high)
        return y_high, convolved(ll, low) + convolved(hl, mean(high, high_there, 2))
    y_high = convolved(hh, mean(high, high_there, 2)) + convolved(lh, low)
    far = convolved(ll, mean(low, low_there, 2)) + convolved(hl, mean(high, high_there, 4))
    return y_high, far


def expected_of(layer, parts, y):
    there = [occupied(part) for part in (parts.high, parts.low)]
    full = formula(layer, grid_of(parts.high), grid_of(parts.low), *there)
    return torch.cat([at_sites(g, p).flatten() for g, p in zip(full, (y.high, y.low), strict=True)])


def flat(y):
    return torch.cat([y.high.features.flatten(), y.low.features.flatten()])


@pytest.mark.parametrize(
    "name", ["random_sparse", "full_cube", "empty_batch_item", "plane", "line"]
)
@pytest.mark.parametrize(
    ("kernel", "dilation", "groups"), [(3, 1, 1), ((1, 3, 5), 2, 1), ((1, 3, 5), 2, 2)]
)
@pytest.mark.parametrize("stride", [1, 2])
def test_equation(backend, name, kernel, dilation, groups, stride):
    parts = parts_of(scene(name).tensor(6))
    layer = nn.OctaveConv3d(6, 8, kernel, 0.4, 0.5, stride, dilation, groups).double()
    assert (layer.low_in, layer.low_out) == (2, 4)
    y = layer(parts)
    sites = (parts.low.coords if stride == 2 else parts.high.coords).tolist()
    assert y.high.coords.tolist() == sites
    above = {(b, *(v // 2 for v in at)) for b, *at in sites}
    assert {tuple(c) for c in y.low.coords.tolist()} == above
    assert_twins(flat(y), expected_of(layer, parts, y), leaves(parts, layer), **CLOSE)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (2, 1), (3, 2)])
def test_dense_and_sparse_of_odd_extents(backend, kernel, stride):
    x = scene("full_cube").tensor(4)
    layer = nn.OctaveConv3d(4, 4, kernel, stride=stride).double()
    parts = split_octaves(x, 2)
    grids = split_octaves(grid_of(x), 2)
    torch.testing.assert_close(at_sites(grids.low, parts.low), parts.low.features)
    y, full = layer(parts), layer(grids)
    torch.testing.assert_close(at_sites(full.high, y.high), y.high.features)
    torch.testing.assert_close(at_sites(full.low, y.low), y.low.features)
    torch.testing.assert_close(at_sites(join_octaves(full), y.high), join_octaves(y).features)


def test_first_and_last_layer(backend):
    x = scene("random_sparse").tensor(4)
    first = nn.OctaveConv3d(4, 6, 3, 0, 0.5).double()
    last = nn.OctaveConv3d(6, 5, 3, 0.5, 0).double()
    parts = first(x)
    assert parts.channels == (3, 3) and first.low_to_high is None and first.low_to_low is None
    y = last(parts.apply(lambda part: part.replace(features=part.features.relu())))
    assert y.coords is x.coords and y.channels == 5
    high = at_sites(convolved(first.high_to_high, grid_of(x)), x)
    torch.testing.assert_close(parts.high.features, high)
    pooled = mean(grid_of(x), occupied(x), 2)
    low = at_sites(convolved(first.high_to_low, pooled), parts.low)
    torch.testing.assert_close(parts.low.features, low)
    assert last.low_to_high.bias is None and last.high_to_high.bias is not None


def test_without_a_low_part_it_is_a_submanifold_convolution(backend):
    x = scene("random_sparse").tensor(4)
    layer = nn.OctaveConv3d(4, 6, 3, 0, 0).double()
    plain = nn.SubMConv3d(4, 6, 3).double()
    plain.load_state_dict(layer.high_to_high.state_dict())
    torch.testing.assert_close(layer(x).features, plain(x).features)
    assert SplitOctaveConv3d(4, 6, 3, 0).double()(x).features.shape == (len(x), 6)


def test_constants(backend):
    # all weights 1, inputs 1: every convolution counts its neighbours
    parts = split_octaves(scene("full_cube").tensor(4), 2)
    parts = parts.apply(lambda p: p.replace(features=torch.ones_like(p.features)))
    layer = nn.OctaveConv3d(4, 2, 1).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.fill_(1)
    y = layer(parts)
    assert (y.high.features == 5).all() and (y.low.features == 5).all()


def test_a_mean_over_all_cells_has_the_dense_value_at_any_occupancy(backend):
    x = scene("random_sparse").tensor(4)
    layer = nn.OctaveConv3d(4, 4, 3, 0, 0.5, stride=2, pool="kernel").double()
    y = layer(x)
    for path, part, size in (
        (layer.high_to_high, y.high, 2),
        (layer.high_to_low, y.low, 4),
    ):
        full = convolved(path, dense.avg_pool3d(grid_of(x), size))  # of 8^3 cells
        torch.testing.assert_close(part.features, at_sites(full, part))


def test_a_depthwise_layer_keeps_the_parts_apart(backend):
    parts = parts_of(scene("random_sparse").tensor(6), 3)
    layer = nn.OctaveConv3d(6, 6, 3, groups=6).double()
    assert layer.high_to_low is None and layer.low_to_high is None
    y = layer(parts)
    assert_twins(flat(y), expected_of(layer, parts, y), leaves(parts, layer), **CLOSE)


def test_between_plain_tensors(backend):
    x = scene("random_sparse").tensor(6)
    x.features.requires_grad_()
    layer = SplitOctaveConv3d(6, 5, 3).double()
    low_there = occupied(split_octaves(x, 3).low)
    grid = grid_of(x)
    low = mean(grid[:, 3:], occupied(x), 2)
    high, low = formula(layer.conv, grid[:, :3], low, occupied(x), low_there)
    expected = at_sites(torch.cat([high, up(low, high)], 1), x)
    assert_twins(layer(x).features, expected, [x.features, *layer.parameters()], **CLOSE)


def test_laws(backend):
    x = scene("empty_batch_item").tensor(4)
    layer = SplitOctaveConv3d(4, 4, 3).double()
    laws.isolation(layer, x)
    laws.permutation(layer, x)
    laws.translation(layer, x, (4, -2, 6))
    with pytest.raises(AssertionError):
        laws.translation(layer, scene("random_sparse").tensor(4), (1, 0, 0))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"alpha_in": 1.0}, "alpha_in: expected a share from 0 to below 1"),
        ({"alpha_out": -0.1}, "alpha_out: expected a share"),
        ({"stride": 3}, "stride: expected 1 or 2, found 3; put a pooling layer"),
        ({"pool": "all"}, "pool: expected 'present' or 'kernel'"),
        ({"groups": 8, "alpha_out": 0.25}, "out_channels: expected 4 high and 4 low"),
    ],
)
def test_refusals(kind, words):
    with pytest.raises(ValueError, match=words):
        nn.OctaveConv3d(8, 8, 3, **kind)


def test_refused_inputs():
    x = scene("random_sparse").tensor(4)
    layer, parts = nn.OctaveConv3d(4, 4, 3).double(), split_octaves(x, 2)
    with pytest.raises(TypeError, match=r"an OctTensor of 2 high and 2 low.*split_octaves"):
        layer(x)
    with pytest.raises(ValueError, match=r"2 high and 2 low channels, found 3, 1"):
        layer(split_octaves(x, 1))
    with pytest.raises(ValueError, match="low: expected a tensor at the parents"):
        layer(OctTensor(parts.high, parts.high))
    other = split_octaves(scene("random_sparse").tensor(4), 2)
    with pytest.raises(ValueError, match="of the same topology"):
        layer(OctTensor(parts.high, other.low))
    grid = torch.zeros(1, 2, 5, 4, 3).double()
    with pytest.raises(ValueError, match=r"low: expected a grid \[3, 2, 2\]"):
        layer(OctTensor(grid, grid))
    with pytest.raises(ValueError, match="sparse or dense as the high part"):
        layer(OctTensor(parts.high, grid))
    with pytest.raises(ValueError, match=r"low: expected 1\.\.3 channels"):
        split_octaves(x, 4)


@pytest.mark.parametrize("pool", ["present", "kernel"])
@pytest.mark.parametrize("joined", [True, False])
def test_one_op_gives_what_four_convolutions_give(backend, monkeypatch, pool, joined):
    x = scene("random_sparse").tensor(10)
    layer = nn.OctaveConv3d(10, 12, 3, 0.3, 0.4, dilation=2, pool=pool).double()
    parts = parts_of(x, 3)
    if joined:
        x = x.replace(features=x.features.requires_grad_())
        whole = SplitOctaveConv3d(10, 12, 3)
        whole.conv = layer
        inputs = [x.features, *layer.parameters()]
    else:
        inputs = leaves(parts, layer)

    def run():
        return whole(x).features if joined else flat(layer(parts))

    assert layer.exchanges
    y = run()
    monkeypatch.setattr(nn.OctaveConv3d, "exchanges", False)
    assert_twins(y, run(), inputs, **CLOSE)


def test_what_is_no_single_op():
    for kind in ({"stride": 2}, {"groups": 2}, {"alpha_in": 0}, {"alpha_out": 0}):
        assert not nn.OctaveConv3d(4, 4, 3, **kind).exchanges
    assert not nn.OctaveConv3d(4, 4, 2).exchanges and nn.OctaveConv3d(4, 4, (1, 3, 5)).exchanges


def test_who_listens_to_the_layer_inside_is_told():
    x = scene("random_sparse").tensor(10, torch.float32)
    whole = SplitOctaveConv3d(10, 12, 3)
    expected, seen = whole(x).features, []
    whole.conv.register_forward_hook(lambda *called: seen.append(called))
    torch.testing.assert_close(whole(x).features, expected)
    assert len(seen) == 1
