"""Vectors and kernels of their own for every scan, against one scan after the other."""

import pytest
import torch

import sparseconv as sc
from sparseconv.functional.global_pool import global_avg_pool, global_sum_pool
from sparseconv.functional.per_item import BLOCK, of_items, per_item_conv, sum_by_item
from sparseconv.geometry import Geometry
from sparseconv.ops.items import item_order, split_by_item
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.testing import oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scans import convolved
from sparseconv.testing.scenes import room, scene
from sparseconv.testing.tolerances import tolerance
from sparseconv.testing.twins import grid_of

CLOSE = tolerance(torch.float64, "formula")


def one_by_one(x, weight, bias, spec, out, groups):
    """Dense convolution of every scan alone with its own kernel, read at the output sites."""
    kernels = weight.permute(0, 3, 2, 1).reshape(len(weight), -1, weight.shape[2], *spec.kernel)
    return oracle.read(convolved(grid_of(x), kernels, bias, spec, groups), out)


GEOMETRIES = {
    "submanifold": ((3, 1, "same"), True, 1),
    "even": ((2, 1, "same", 2), True, 2),
    "flat": (((3, 1, 5), 1, "same"), True, 2),
    "strided": ((2, 2, 0), False, 1),
    "wide": ((3, 2, 1), False, 2),
}


@pytest.mark.parametrize("kind", GEOMETRIES)
@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "full_cube", "one_voxel"])
def test_kernels_of_their_own(backend, name, kind):
    x = scene(name).tensor(4)
    arguments, submanifold, groups = GEOMETRIES[kind]
    geometry, spec = Geometry.make(*arguments), Spec.of(*arguments)
    weight = torch.randn(x.batch_size, geometry.taps, 4 // groups, 6, dtype=torch.float64)
    bias = torch.randn(x.batch_size, 6, dtype=torch.float64) if groups == 1 else None
    wanted = [t.requires_grad_() for t in (x.features, weight, bias) if t is not None]
    y = per_item_conv(x, weight, bias, geometry, groups=groups, submanifold=submanifold)
    out = oracle.sites_of(y.coords)
    if submanifold:
        assert y.coords is x.coords
    else:
        sites = oracle.sites_of(x.coords)
        assert sorted(out) == sorted(oracle.conv_sites(sites, spec, x.spatial_shape))
    expected = one_by_one(x, weight, bias, spec, out, groups)
    torch.testing.assert_close(y.features, expected, **CLOSE)
    probe = torch.randn_like(expected)
    found = torch.autograd.grad(y.features, wanted, probe)
    for a, b in zip(found, torch.autograd.grad(expected, wanted, probe), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_second_derivatives(backend):
    x = scene("empty_batch_item").tensor(2)
    weight = torch.randn(3, 27, 2, 2, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def run(features, weight, bias):
        y = per_item_conv(
            x.replace(features=features), weight, bias, Geometry.submanifold(3), submanifold=True
        )
        return y.features * of_items(sum_by_item(y.features, y), y)

    given = x.features.requires_grad_(), weight, bias
    assert torch.autograd.gradcheck(run, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, given, fast_mode=True)


def test_equal_kernels_are_a_plain_convolution():
    x = scene("random_sparse").tensor(8, torch.float32)
    layer = sc.nn.SubMConv3d(8, 8, 3, bias=False)
    weight = layer.weight.permute(2, 3, 4, 1, 0).reshape(1, 27, 8, 8)
    y = per_item_conv(x, weight.expand(3, -1, -1, -1), None, layer.geometry, submanifold=True)
    torch.testing.assert_close(
        y.features, layer(x).features, **tolerance(torch.float32, "forward", 216)
    )


def test_onto_the_sites_of_another_tensor(backend):
    x, other = scene("backwards").tensor(4), scene("same_xyz").tensor(1)
    other = sc.SparseTensor(other.coords, other.features, x.spatial_shape, 2)
    weight = torch.randn(2, 27, 4, 5, dtype=torch.float64)
    geometry = Geometry.submanifold(3)
    y = per_item_conv(x, weight, None, geometry, sites=other)
    out = oracle.sites_of(other.coords)
    expected = one_by_one(x, weight, None, Spec.of(3, 1, "same"), out, 1)
    torch.testing.assert_close(y.features, expected, **CLOSE)


def test_split_rulebooks_hold_the_same_pairs():
    x = scene("random_sparse").tensor(1)
    geometry = Geometry.submanifold(3)
    book = x.topology.rulebook("sites", "sites", geometry)
    split = x.topology.split_rulebook("sites", "sites", geometry)
    Rulebook(split.in_rows, split.out_rows, split.segments).validate(len(x), len(x))
    assert split is x.topology.split_rulebook("sites", "sites", geometry)
    assert split.symmetric and split.taps == 28 * 3
    items = x.coords[:, 0]
    for tap in range(split.taps):
        rows = split.out_rows[split.segments[tap] : split.segments[tap + 1]].long()
        assert len(items[rows].unique()) <= 1, "one scan a tap"
    pairs = sorted(zip(book.in_rows.tolist(), book.out_rows.tolist(), strict=True))
    assert pairs == sorted(zip(split.in_rows.tolist(), split.out_rows.tolist(), strict=True))


def test_order_by_item():
    items = torch.tensor([2, 0, 2, 0, 3], dtype=torch.int32)
    order, ends = item_order(items, 5)
    assert order.tolist() == [1, 3, 0, 2, 4]
    assert ends.tolist() == [0, 2, 2, 4, 5, 5]


@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "one_voxel", "empty"])
def test_values_of_items_and_sums(backend, name):
    x = scene(name).tensor(3)
    values = torch.randn(x.batch_size, 2, 2, dtype=torch.float64, requires_grad=True)
    y = of_items(values, x)
    item = x.coords[:, 0].long()
    assert torch.equal(y, values[item])
    probe = torch.randn_like(y)
    (grad,) = torch.autograd.grad(y, values, probe)
    expected = torch.stack([probe[item == b].sum(0) for b in range(x.batch_size)])
    torch.testing.assert_close(grad, expected, **CLOSE)
    total = torch.stack([x.features[item == b].sum(0) for b in range(x.batch_size)])
    torch.testing.assert_close(global_sum_pool(x), total, **CLOSE)


def test_averages():
    x = scene("empty_batch_item").tensor(3)
    total = global_sum_pool(x)
    expected = total / torch.tensor([[2.0], [1.0], [2.0]], dtype=torch.float64)
    torch.testing.assert_close(global_avg_pool(x), expected, **CLOSE)
    torch.testing.assert_close(global_avg_pool(x, "volume"), x.dense().mean((2, 3, 4)), **CLOSE)


def test_many_rows_are_summed_the_same_with_every_number_of_threads():
    coords = room(5 * BLOCK)
    coords[1::2, 0] = 1
    x = sc.SparseTensor(coords, torch.randn(len(coords), 5), batch_size=2)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(global_sum_pool(x))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    expected = torch.stack([x.features[b::2].double().sum(0) for b in range(2)])
    torch.testing.assert_close(
        found[0].double(), expected, **tolerance(torch.float32, "forward", len(x))
    )


def test_refusals():
    x = scene("random_sparse").tensor(4)
    unbounded = sc.SparseTensor(x.coords, x.features)
    cube = Geometry.submanifold(3)
    with pytest.raises(ValueError, match="pool: expected 'active' or 'volume'"):
        global_avg_pool(x, "sites")
    with pytest.raises(ValueError, match="spatial_shape"):
        global_avg_pool(unbounded, "volume")
    with pytest.raises(ValueError, match="values: expected 3 entries"):
        of_items(torch.ones(2, 4), x)
    with pytest.raises(ValueError, match="weight: expected"):
        per_item_conv(x, torch.ones(2, 27, 4, 4).double(), None, cube, submanifold=True)
    with pytest.raises(ValueError, match="bias: expected"):
        per_item_conv(x, torch.ones(3, 27, 4, 4).double(), x.features[:3, :1], cube)
    rows = torch.zeros(2, dtype=torch.int32)
    with pytest.raises(ValueError, match="symmetric: expected an odd"):
        split_by_item(rows, rows, torch.tensor([0, 1, 2]), rows, 1, symmetric=True)
    with pytest.raises(TypeError, match="items: expected an int32"):
        item_order(rows.long(), 1)
    with pytest.raises(ValueError, match="batch_size: expected"):
        item_order(rows, 0)
    with pytest.raises(IndexError, match="items"):
        item_order(rows + 1, 1)
