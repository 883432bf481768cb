"""Batches, channels side by side, sums over different sites, comparisons."""

import pytest
import torch

import sparseconv as sc
from sparseconv.testing import laws, oracle
from sparseconv.testing.scenes import scene


def moved(x, step):
    return laws.like(
        x, x.coords + torch.tensor([0, *step], dtype=torch.int32), x.features, spatial_shape=None
    )


@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item", "empty_last_item", "line"])
def test_unbatch_and_batch_is_a_round_trip(name):
    x = scene(name).tensor(3)
    parts = x.unbatch()
    assert len(parts) == x.batch_size and all(p.batch_size == 1 for p in parts)
    assert all((p.coords[:, 0] == 0).all() for p in parts)
    y = sc.batch(parts)
    assert sc.compare(x, y).equal
    assert (y.batch_size, y.spatial_shape, y.stride) == (x.batch_size, x.spatial_shape, x.stride)


def test_batch_of_batches_counts_on():
    x, y = scene("empty_last_item").tensor(2), scene("line").tensor(2)
    z = sc.batch([x, y, x])
    assert z.batch_size == 5 and z.spatial_shape == (4, 4, 9)
    assert z.coords[:, 0].tolist() == [0] * 3 + [2] * 9 + [3] * 3


def test_batch_of_an_empty_scan_keeps_its_place():
    none = sc.SparseTensor(torch.zeros(0, 4).int(), torch.zeros(0, 2, dtype=torch.float64))
    x = scene("line").tensor(2)
    z = sc.batch([none, x])
    assert z.batch_size == 2 and (z.coords[:, 0] == 1).all()


def test_batch_refuses_what_does_not_fit():
    x = scene("line").tensor(2)
    with pytest.raises(ValueError, match="at least one"):
        sc.batch([])
    with pytest.raises(ValueError, match=r"tensors\[1\]: expected channels 2.*found 3"):
        sc.batch([x, scene("line").tensor(3)])
    with pytest.raises(ValueError, match=r"tensors\[1\]: expected dtype"):
        sc.batch([x, x.to(torch.float32)])
    with pytest.raises(ValueError, match=r"tensors\[1\]: expected stride"):
        sc.batch([x, sc.nn.MaxPool3d(2)(x)])


def test_batch_passes_gradients():
    x = scene("line").tensor(2)
    x.features.requires_grad_()
    sc.batch([x, x]).features.sum().backward()
    assert (x.features.grad == 2).all()


def test_cat():
    x = scene("random_sparse").tensor(2)
    y = x.replace(features=torch.ones(len(x), 3, dtype=torch.float64))
    z = sc.cat([x, y, x])
    assert z.shares_sites(x) and z.channels == 7
    assert torch.equal(z.features, torch.cat([x.features, y.features, x.features], 1))
    # equal sites of another topology will do
    assert sc.cat([x, scene("random_sparse").tensor(1)]).channels == 3


def test_cat_refuses_different_sites_and_another_order():
    x = scene("negative").tensor(2)
    with pytest.raises(ValueError, match=r"tensors: expected the same sites.*add them with x \+ y"):
        sc.cat([x, moved(x, (1, 0, 0))])
    with pytest.raises(ValueError, match="same sites in the same order"):
        sc.cat([x, laws.like(x, x.coords.flip(0), x.features)])
    with pytest.raises(ValueError, match="at least one"):
        sc.cat([])


def test_sum_of_the_same_sites_is_row_by_row():
    x = scene("random_sparse").tensor(2)
    y = x + x.replace(features=x.features * 2)
    assert y.shares_sites(x) and torch.equal(y.features, x.features * 3)


@pytest.mark.parametrize("step", [(1, 0, 0), (0, 0, -3), (50, 0, 0), (0, 0, 0)])
def test_sum_of_different_sites_is_their_union(backend, step):
    x = scene("negative").tensor(2)
    y = moved(laws.like(x, x.coords.flip(0), x.features), step)
    z = x + y
    values = {}
    for t in (x, y):
        for site, row in zip(map(tuple, t.coords.tolist()), t.features, strict=True):
            values[site] = values.get(site, 0) + row
    ordered = sorted(values, key=oracle.z_place)
    assert oracle.sites_of(z.coords) == ordered
    torch.testing.assert_close(z.features, torch.stack([values[s] for s in ordered]))
    laws.assert_same(z, y + x, rtol=0, atol=1e-14)


def test_sum_passes_gradients_and_allows_empty_sides():
    x = scene("negative").tensor(2)
    x.features.requires_grad_()
    y = moved(x, (1, 0, 0))
    (x + y).features.sum().backward()
    assert (x.features.grad == 2).all()
    none = laws.like(x, x.coords[:0], x.features[:0])
    laws.assert_same(x + none, x)
    laws.assert_same(none + x, x)
    assert len(none + none) == 0


def test_sum_refuses_what_does_not_fit():
    x = scene("random_sparse").tensor(2)
    with pytest.raises(ValueError, match="other: expected 2 channels, found 3"):
        x + scene("random_sparse").tensor(3)
    with pytest.raises(ValueError, match="stride: expected"):
        x + sc.nn.MaxPool3d(2)(x)
    with pytest.raises(ValueError, match="spatial_shape"):
        x + laws.like(x, x.coords, x.features, spatial_shape=9)
    with pytest.raises(TypeError):
        x + 1


def test_new_sites_after_a_sum_find_their_own_rulebooks(backend):
    # a cache kept for the old sites would be silently wrong
    x = scene("negative").tensor(2)
    layer = sc.nn.SubMConv3d(2, 2, 3, dtype=torch.float64)
    layer(x)
    z = x + moved(x, (1, 0, 0))
    fresh = laws.like(z, z.coords, z.features)
    assert torch.equal(layer(z).features, layer(fresh).features)


def test_compare():
    x = scene("negative").tensor(2)
    assert sc.compare(x, x).equal and sc.compare(x, x).same_order
    back = laws.like(x, x.coords.flip(0), x.features.flip(0))
    assert sc.compare(x, back).equal and not sc.compare(x, back).same_order
    off = x.features.clone()
    off[3, 1] += 0.5
    near = sc.compare(x, x.replace(features=off))
    assert near.max_abs == pytest.approx(0.5) and not near.equal
    assert near.max_rel == pytest.approx(0.5 / float(x.features.abs().max()))
    part = sc.compare(x, laws.like(x, x.coords[5:], x.features[5:]))
    assert (part.only_a, part.only_b, part.common) == (5, 0, len(x) - 5) and not part.equal
    other = sc.compare(laws.like(x, x.coords[5:], x.features[5:]), x)
    assert (other.only_a, other.only_b) == (0, 5)
    empty = laws.like(x, x.coords[:0], x.features[:0])
    assert sc.compare(empty, empty).equal and sc.compare(x, empty).common == 0
    with pytest.raises(ValueError, match="channels"):
        sc.compare(x, x.replace(features=off[:, :1]))


def test_compare_does_not_overlook_nan_and_infinity():
    x = scene("negative").tensor(2)
    for value in (float("nan"), float("inf")):
        bad = x.features.clone()
        bad[0, 0] = value
        y = x.replace(features=bad)
        assert not sc.compare(x, y).equal and not sc.compare(y, x).equal
        assert sc.compare(y, y).equal
