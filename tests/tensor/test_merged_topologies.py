"""A batch of built scans has what building on the batch gives, bit for bit, and builds nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sparseconv as sc
from sparseconv import nn
from sparseconv.testing.scenes import room, scene

NETS = (
    nn.Sequential(nn.SubMConv3d(1, 1, 3), nn.MaxPool3d(2), nn.SubMConv3d(1, 1, (1, 2, 3))),
    nn.Sequential(nn.SparseConv3d(1, 1, 3, 2, 1), nn.SparseInverseConv3d(1, 1, 3)),
    nn.Sequential(nn.SparseConv3d(1, 1, 2, 2), nn.SparseConvTranspose3d(1, 1, 3, 2, 1)),
)


@st.composite
def scans(draw, shape=None):
    low = -6 if shape is None else 0
    high = 6 if shape is None else min(shape) - 1
    number = st.integers(low, high)
    batch_size = draw(st.integers(1, 2))
    site = st.tuples(st.integers(0, batch_size - 1), number, number, number)
    rows = draw(st.lists(site, unique=True, max_size=24))
    coords = torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)
    return sc.SparseTensor(coords, torch.ones(len(rows), 1), shape, batch_size)


def joined(items):
    """Their batch from joined coordinates, with nothing built."""
    coords, size = [], 0
    for x in items:
        coords.append(x.coords + torch.tensor([size, 0, 0, 0], dtype=torch.int32))
        size += max(x.batch_size, 1)
    features = torch.cat([x.features for x in items])
    return sc.SparseTensor(torch.cat(coords), features, items[0].spatial_shape, size)


def assert_same_topology(found, expected):
    assert found.levels.keys() == expected.levels.keys()
    assert found.rulebooks.keys() == expected.rulebooks.keys()
    assert found.origins == expected.origins
    for name, level in expected.levels.items():
        ours = found.levels[name]
        assert torch.equal(ours.coords, level.coords), name
        kept = (level.stride, level.spatial_shape, level.batch_size)
        assert (ours.stride, ours.spatial_shape, ours.batch_size) == kept
    for name, book in expected.rulebooks.items():
        for part in ("in_rows", "out_rows", "segments"):
            ours, theirs = (getattr(b, part) for b in (found.rulebooks[name], book))
            assert ours.dtype == theirs.dtype and torch.equal(ours, theirs), (name, part)


@given(data=st.data())
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("shape", [None, (5, 6, 7)])
def test_merged_equals_built(net, shape, data):
    items = data.draw(st.lists(scans(shape), min_size=1, max_size=4))
    plan = sc.plan(net, scene("line").tensor(1, torch.float32))
    expected = plan.build(joined(items)).topology
    found = sc.batch([plan.build(x) for x in items]).topology
    assert_same_topology(found, expected)


def test_a_net_builds_nothing_on_a_batch_of_built_scans(backend, built):
    net = sc.models.MinkUNet(2, 3, (4, 6, 8, 6, 4), blocks=1).double().eval()
    items = [scene(name).tensor(2) for name in ("negative", "random_sparse", "empty", "line")]
    items = [sc.SparseTensor(x.coords, x.features, batch_size=x.batch_size) for x in items]
    expected = net(sc.batch(items)).features
    plan = sc.plan(net, items[0])
    for x in items:
        plan.build(x)
    with built() as counted:
        y = net(sc.batch(items))
    assert counted.ops == []
    assert torch.equal(y.features, expected)


def test_what_one_scan_lacks_is_left_out_and_built_when_asked_for():
    net = nn.Sequential(nn.SubMConv3d(1, 1, 3), nn.MaxPool3d(2), nn.SubMConv3d(1, 1, 3))
    items = [
        sc.SparseTensor(room(60, seed=n), torch.ones(len(room(60, seed=n)), 1)) for n in (0, 1)
    ]
    plan = sc.plan(net, items[0])
    plan.build(items[0])
    nn.SubMConv3d(1, 1, 3)(items[1])
    nn.SubMConv3d(1, 1, 5)(items[1])
    z = sc.batch(items)
    assert set(z.topology.levels) == {"sites"} and len(z.topology.rulebooks) == 1
    assert torch.equal(net(z).features, net(joined(items)).features)


def test_scans_cut_at_different_extents_share_no_level():
    # a smaller lattice leaves out sites that the batch's has
    coords = torch.tensor([[0, 3, 3, 3]], dtype=torch.int32)
    items = [sc.SparseTensor(coords, torch.ones(1, 1), extent, 1) for extent in (4, 9)]
    layer = nn.SparseConv3d(1, 1, 3, 1, 1)
    for x in items:
        layer(x)
    z = sc.batch(items)
    assert set(z.topology.levels) == {"sites"} and z.spatial_shape == (9, 9, 9)
    y = layer(z)
    assert y.coords[:, 0].bincount().tolist() == [27, 27]


def test_rulebooks_of_one_lattice_survive_another_extent():
    coords = torch.tensor([[0, 3, 3, 3], [0, 3, 3, 2]], dtype=torch.int32)
    items = [sc.SparseTensor(coords, torch.ones(2, 1), extent, 1) for extent in (4, 9)]
    plan = sc.plan(nn.SubMConv3d(1, 1, 3), items[0])
    z = sc.batch([plan.build(x) for x in items])
    w = plan.build(sc.SparseTensor(z.coords, z.features, 9, 2))
    assert_same_topology(z.topology, w.topology)


def test_a_batch_of_inner_levels_begins_there():
    net = nn.Sequential(nn.MaxPool3d(2), nn.SubMConv3d(1, 1, 3), nn.MaxPool3d(2))
    inner = nn.Sequential(*list(net)[1:])
    items = [
        sc.SparseTensor(room(60, seed=n), torch.ones(len(room(60, seed=n)), 1)) for n in (0, 1)
    ]
    coarse = [net[0](x) for x in items]
    for x in coarse:
        inner(x)
    z = sc.batch(coarse)
    assert z.level == "sites" and z.stride == (2, 2, 2) and len(z.topology.levels) == 2
    w = sc.SparseTensor(z.coords, z.features, batch_size=2, stride=2)
    inner(w)
    assert_same_topology(z.topology, w.topology)


def test_scans_without_sites_need_no_plan():
    none = sc.SparseTensor(torch.zeros(0, 4).int(), torch.zeros(0, 1))
    x = sc.SparseTensor(room(60), torch.ones(len(room(60)), 1))
    nn.MaxPool3d(2)(x)
    z = sc.batch([none, x, none])
    assert z.batch_size == 3 and len(z.topology.levels) == 2 and len(z.topology.rulebooks) == 1
    assert all((level.coords[:, 0] == 1).all() for level in z.topology.levels.values())
    assert sc.batch([none, none]).batch_size == 2


def test_joining_leaves_the_parts_alone():
    x = scene("random_sparse").tensor(2)
    nn.MaxPool3d(2)(x)
    kept = {name: level.coords.clone() for name, level in x.topology.levels.items()}
    book = next(iter(x.topology.rulebooks.values()))
    rows = book.in_rows.clone()
    sc.batch([x, x, x])
    assert all(torch.equal(x.topology.levels[n].coords, coords) for n, coords in kept.items())
    assert torch.equal(book.in_rows, rows)
