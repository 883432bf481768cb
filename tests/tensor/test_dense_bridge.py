"""To a full grid and back."""

import pytest
import torch

import sparseconv as sc
from sparseconv.testing import oracle
from sparseconv.testing.scenes import scene


def test_dense_and_back(bounded_scene):
    x = bounded_scene.tensor(3)
    grid = x.dense()
    sites = oracle.sites_of(x.coords)
    assert torch.equal(grid, oracle.densify(sites, x.features, x.spatial_shape, x.batch_size))
    y = sc.from_dense(grid)
    assert sc.compare(x, y).equal
    assert oracle.sites_of(y.coords) == sorted(sites)
    assert (y.batch_size, y.spatial_shape) == (x.batch_size, x.spatial_shape)


def test_a_mask_keeps_sites_of_zeros():
    grid = torch.zeros(2, 3, 4, 4, 4)
    mask = torch.rand(2, 4, 4, 4) > 0.5
    x = sc.from_dense(grid, mask)
    assert len(x) == int(mask.sum()) and len(sc.from_dense(grid)) == 0
    assert sc.from_dense(grid).batch_size == 2


def test_origin_and_shape_of_negative_sites():
    x = scene("negative").tensor(2)
    low, high = x.coords[:, 1:].amin(0), x.coords[:, 1:].amax(0)
    shape = tuple((high - low + 1).tolist())
    grid = x.dense(shape, tuple(low.tolist()))
    expected = oracle.densify(oracle.sites_of(x.coords), x.features, shape, 2, tuple(low.tolist()))
    assert torch.equal(grid, expected)
    assert torch.equal(x.dense(origin=tuple(low.tolist())), expected)


def test_a_site_outside_the_grid_is_refused():
    x = scene("negative").tensor(2)
    with pytest.raises(
        ValueError, match=r"spatial_shape: expected a grid that holds.*pass origin="
    ):
        x.dense()
    with pytest.raises(ValueError, match="spatial_shape"):
        scene("line").tensor(2).dense((4, 3, 5))


def test_gradients_go_both_ways():
    x = scene("random_sparse").tensor(2)
    x.features.requires_grad_()
    probe = torch.randn_like(x.dense())
    (x.dense() * probe).sum().backward()
    assert torch.equal(x.features.grad, oracle.read(probe, oracle.sites_of(x.coords)))
    grid = probe.clone().requires_grad_()
    sc.from_dense(grid).features.square().sum().backward()
    torch.testing.assert_close(grid.grad, 2 * probe)


def test_empty():
    x = scene("empty").tensor(2)
    assert x.dense().shape == (1, 2, 0, 0, 0)
    assert x.dense(3).shape == (1, 2, 3, 3, 3) and not x.dense(3).any()


def test_refusals():
    with pytest.raises(ValueError, match=r"grid: expected \[B, C, X, Y, Z\]"):
        sc.from_dense(torch.zeros(3, 4, 4, 4))
    with pytest.raises(ValueError, match="mask: expected bool"):
        sc.from_dense(torch.zeros(1, 3, 4, 4, 4), torch.ones(1, 4, 4, 3).bool())
