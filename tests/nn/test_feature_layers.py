"""Layers that act on features, the chain of layers, normalisation, interpolation, pruning."""

import pytest
import torch
from torch import nn as dense

from sparseconv import nn
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing import oracle
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance

TWINS = {
    "ReLU": (),
    "LeakyReLU": (0.2,),
    "GELU": (),
    "SiLU": (),
    "Sigmoid": (),
    "LayerNorm": (4,),
}


@pytest.mark.parametrize("name", TWINS)
def test_torchs_layers_take_sparse_and_plain_tensors(name):
    x = scene("random_sparse").tensor(4, torch.float32)
    torch.manual_seed(0)
    ours = getattr(nn, name)(*TWINS[name])
    torch.manual_seed(0)
    theirs = getattr(dense, name)(*TWINS[name])
    expected = theirs(x.features)
    y = ours(x)
    assert y.shares_sites(x)
    assert torch.equal(y.features, expected) and torch.equal(ours(x.features), expected)
    chained = nn.Sequential(theirs)(x)
    assert torch.equal(chained.features, expected)
    assert torch.equal(nn.OnFeatures(theirs)(x).features, expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["random_sparse", "one_voxel", "empty"])
def test_linear_is_torchs_with_its_gradients(backend, name, bias):
    x = scene(name).tensor(20, torch.float32)
    x.features.requires_grad_()
    layer = nn.Linear(20, 33, bias=bias)
    y, expected = layer(x), dense.functional.linear(x.features, layer.weight, layer.bias)
    assert y.shares_sites(x)
    close = tolerance(torch.float32, "forward", 20)
    torch.testing.assert_close(y.features, expected, **close)
    # a plain tensor takes torch's own way
    assert torch.equal(layer(x.features), expected)
    wanted = [x.features, *layer.parameters()]
    grad = torch.randn_like(expected)
    found = torch.autograd.grad(y.features, wanted, grad)
    close = tolerance(torch.float32, "grad_weight", max(len(x), 33))
    for a, b in zip(found, torch.autograd.grad(expected, wanted, grad), strict=True):
        torch.testing.assert_close(a, b, **close)


def test_linear_under_autocast_and_refusal():
    x = scene("random_sparse").tensor(4, torch.float32)
    layer = nn.Linear(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        expected = layer(x.features)
    assert y.dtype == expected.dtype == torch.bfloat16
    close = tolerance(torch.bfloat16, "forward", 4)
    torch.testing.assert_close(y.features, expected, **close)
    with pytest.raises(ValueError, match=r"features: expected 4 channels.*found 5"):
        layer(x.replace(features=torch.ones(len(x), 5)))
    with pytest.raises(TypeError, match="weight: expected float64"):
        layer(x.to(torch.float64))
    for more in ({"norm": nn.BatchNorm(3)}, {"add": y}, {"relu": True}):
        with pytest.raises(TypeError, match=r"x: expected a SparseTensor where .* found float32"):
            layer(x.features, **more)


def test_linear_adds_and_clips():
    x = scene("random_sparse").tensor(4, torch.float32)
    layer, other = nn.Linear(4, 3), x.replace(features=torch.randn(len(x), 3))
    expected = (layer(x).features + other.features).relu()
    torch.testing.assert_close(layer(x, add=other, relu=True).features, expected)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, add=other, relu=True).features, expected)


def test_dropout_drops_in_training_alone():
    x = scene("random_sparse").tensor(4)
    layer = nn.Dropout(0.5)
    assert (layer(x).features == 0).any()
    assert torch.equal(layer.eval()(x).features, x.features)


def test_sequential_walks_torchs_own_and_ours():
    x = scene("random_sparse").tensor(4, torch.float32)
    net = nn.Sequential(
        nn.SubMConv3d(4, 8, 3, bias=False),
        nn.BatchNorm(8),
        nn.ReLU(),
        nn.SparseConv3d(8, 6, 2, stride=2),
        dense.Sequential(dense.LayerNorm(6), dense.GELU(), dense.Dropout(0.1)),
        nn.Sequential(dense.Linear(6, 5), dense.Identity()),
        nn.GlobalAvgPool(),
        dense.Linear(5, 2),
    )
    assert net(x).shape == (3, 2)
    assert len(net) == 8 and isinstance(net[0], nn.SubMConv3d)
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_sequential_hands_the_whole_tensor_to_modules_of_ones_own():
    class Mine(dense.Module):
        def forward(self, x):
            assert isinstance(x, SparseTensor)
            return x.replace(features=x.features * 2)

    x = scene("random_sparse").tensor(4)
    assert torch.equal(nn.Sequential(Mine())(x).features, x.features * 2)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_is_torchs(momentum):
    x = scene("random_sparse").tensor(4, torch.float32)
    ours, theirs = nn.BatchNorm(4, momentum=momentum), dense.BatchNorm1d(4, momentum=momentum)
    for factor in (1.0, 3.0):
        y = x.replace(features=x.features * factor)
        torch.testing.assert_close(ours(y).features, theirs(y.features))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x).features, theirs(x.features))


@pytest.mark.parametrize("name", ["empty", "one_voxel"])
@pytest.mark.parametrize("tracked", [True, False])
def test_batch_norm_of_fewer_than_two_rows_stores_no_nan(name, tracked):
    x = scene(name).tensor(4, torch.float32)
    x.features.requires_grad_()
    layer = nn.BatchNorm(4, track_running_stats=tracked)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    y = layer(x)
    assert y.features.shape == x.features.shape and not y.features.isnan().any()
    y.features.sum().backward()
    assert not x.features.grad.isnan().any()
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key]), key
    later = scene("random_sparse").tensor(4, torch.float32)
    assert not layer.eval()(later).features.isnan().any()


@pytest.mark.parametrize("normalize", [False, True])
def test_interpolation(backend, normalize):
    view = scene("random_sparse")
    x = view.tensor(3)
    points = torch.rand(60, 4, dtype=torch.float64) * 10 - 1
    points[:, 0] = torch.randint(0, 3, (60,))
    points[:10] = x.coords[:10].double()
    y = nn.Interpolate(normalize=normalize)(x, points)
    expected = oracle.interpolate(
        oracle.sites_of(view.coords), x.features, points.tolist(), normalize=normalize
    )
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(y[:10], x.features[:10])


def test_interpolation_of_points_between_negative_sites(backend):
    view = scene("negative")
    x = view.tensor(3)
    points = x.coords.double() + torch.rand(len(x), 4, dtype=torch.float64) * torch.tensor(
        [0.0, 1, 1, 1]
    )
    expected = oracle.interpolate(oracle.sites_of(view.coords), x.features, points.tolist())
    torch.testing.assert_close(nn.Interpolate()(x, points), expected)


@pytest.mark.parametrize("moved", [False, True])
def test_a_mean_of_the_smallest_share(backend, moved):
    # the inverse of the share of the one site that is there is infinite
    x = SparseTensor(torch.tensor([[0, 1, 1, 0]]).int(), torch.tensor([[3.0, -5.0]]))
    points = torch.tensor([[0, 1e-20, 1e-20, 0]], requires_grad=moved)
    y = nn.Interpolate(normalize=True)(x, points)
    torch.testing.assert_close(y, x.features)


def test_nearest_reads_the_rounded_site(backend):
    x = scene("random_sparse").tensor(3)
    points = x.coords.double() + torch.tensor([0, 0.4, -0.3, 0.2])
    assert torch.equal(nn.Interpolate("nearest")(x, points), x.features)
    assert not nn.Interpolate("nearest")(x, points + torch.tensor([0, 50.0, 0, 0])).any()


def test_interpolation_has_derivatives_in_features_and_points(backend):
    x = scene("full_cube").tensor(2)
    places = torch.tensor([[1.3, 0.6, 2.2], [2.4, 1.7, 0.4]], dtype=torch.float64)
    scan = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    layer = nn.Interpolate()

    def run(features, places):
        return layer(x.replace(features=features), torch.cat([scan, places], 1))

    wanted = (x.features.clone().requires_grad_(), places.requires_grad_())
    assert torch.autograd.gradcheck(run, wanted, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, wanted, fast_mode=True)


@pytest.mark.parametrize("normalize", [False, True])
def test_interpolation_at_fixed_points_has_derivatives_in_features(backend, normalize):
    x = scene("random_sparse").tensor(2)
    points = x.coords[:40].double() + torch.rand(40, 4, dtype=torch.float64)
    points[:, 0] = x.coords[:40, 0]
    layer = nn.Interpolate(normalize=normalize)

    def run(features):
        return layer(x.replace(features=features), points)

    features = x.features.clone().requires_grad_()
    # as read with gradients of points, by another way
    torch.testing.assert_close(run(features), layer(x, points.clone().requires_grad_()))
    assert torch.autograd.gradcheck(run, features, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, features, fast_mode=True)


@pytest.mark.parametrize("name", ["empty", "random_sparse"])
def test_interpolation_of_no_points_and_of_no_sites(backend, name):
    x = scene(name).tensor(3)
    x.features.requires_grad_()
    assert nn.Interpolate()(x, torch.zeros(0, 4)).shape == (0, 3)
    y = nn.Interpolate()(x, torch.full((2, 4), 0.5) - torch.tensor([0.5, 90, 0, 0]))
    assert y.shape == (2, 3) and not y.any()
    y.sum().backward()


def test_positions_far_away_keep_their_precision(backend):
    x = scene("far_away").tensor(2)
    points = x.coords.double() + torch.tensor([0, 0.25, 0.5, 0.125])
    expected = oracle.interpolate(oracle.sites_of(x.coords), x.features, points.tolist())
    torch.testing.assert_close(nn.Interpolate()(x, points), expected)


@pytest.mark.parametrize("place", [float("nan"), float("inf"), 1e12, -1e12])
def test_points_without_a_place_on_the_lattice_give_zero(backend, place):
    x = scene("int32_limits").tensor(2)
    points = torch.zeros(1, 4, dtype=torch.float64)
    points[0, 2] = place
    for mode in ("trilinear", "nearest"):
        assert not nn.Interpolate(mode)(x, points).any()


def test_pruning(backend):
    x = scene("random_sparse").tensor(3)
    keep = x.features[:, 0] > 0
    y = nn.Pruning()(x, keep)
    assert torch.equal(y.coords, x.coords[keep]) and torch.equal(y.features, x.features[keep])
    assert (y.batch_size, y.spatial_shape) == (x.batch_size, x.spatial_shape)
    none = nn.Pruning()(x, torch.zeros_like(keep))
    assert len(none) == 0 and none.batch_size == 3
    assert len(nn.SubMConv3d(3, 2, 3, dtype=torch.float64)(none)) == 0
    with pytest.raises(ValueError, match=r"keep: expected bool \[144\]"):
        nn.Pruning()(x, keep[:5])
    with pytest.raises(ValueError, match="keep: expected bool"):
        nn.Pruning()(x, keep.int())
