"""U-Nets: shapes, training, checkpoints."""

import copy
import io

import pytest
import torch

import sparseconv as sc
from sparseconv.testing import laws
from sparseconv.testing.scenes import room, scene
from sparseconv.testing.tolerances import tolerance

SMALL = (6, 8, 8, 8, 6)
NET = tolerance(torch.float32, "net")


def small_net(**changed):
    torch.manual_seed(0)
    return sc.models.MinkUNet(3, 4, SMALL, blocks=1, **changed)


@pytest.mark.parametrize("make", [sc.models.MinkUNet, sc.models.MinkUNetSmall])
def test_shapes_of_the_standard_nets(make):
    x = scene("random_sparse").tensor(3, torch.float32)
    net = make(3, 7)
    y = net(x)
    assert y.shares_sites(x) and y.features.shape == (len(x), 7)
    assert y.features.isfinite().all()


def test_the_small_net_fits_in_the_package():
    net = sc.models.MinkUNetSmall(4, 10).half()
    assert sum(p.numel() * p.element_size() for p in net.parameters()) < 3_000_000


@pytest.mark.parametrize("name", ["empty", "one_voxel", "empty_batch_item", "negative", "far_away"])
def test_named_scenes_forward_and_backward(backend, name):
    x = scene(name).tensor(3, torch.float32)
    features = x.features.requires_grad_()
    net = small_net()
    y = net(x)
    assert torch.equal(y.coords, x.coords)
    y.features.square().sum().backward()
    assert features.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_laws_of_a_whole_net(backend):
    net = small_net().double().eval()
    x = scene("random_sparse").tensor(3)
    x = laws.like(x, x.coords, x.features, spatial_shape=None)
    close = tolerance(torch.float64, "formula")
    laws.permutation(net, x, **close)
    laws.translation(net, x, (4, -8, 12), **close)
    laws.batch_independence(net, x.unbatch(), **close)
    laws.isolation(net, x)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_gradient_of_a_whole_net_is_its_derivative(backend, training):
    net = small_net().double().train(training)
    # smooth, so that finite differences meet no corner
    for name, module in list(net.named_modules()):
        if isinstance(module, sc.nn.ReLU):
            parent = net.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], sc.nn.SiLU())
    x = scene("random_sparse").tensor(3)

    def run(features, stem, deepest):
        weights = {"stem.0.0.weight": stem, "encode.1.0.first.0.weight": deepest}
        y = torch.func.functional_call(net, weights, (x.replace(features=features),))
        return y.features

    weights = dict(net.named_parameters())
    given = (x.features, weights["stem.0.0.weight"], weights["encode.1.0.first.0.weight"])
    given = tuple(t.detach().clone().requires_grad_() for t in given)
    assert torch.autograd.gradcheck(run, given, fast_mode=True)


def test_channels_must_pair_up():
    with pytest.raises(ValueError, match="channels: expected 1 \\+ 2"):
        sc.models.MinkUNet(3, 4, (8, 8))


def test_a_net_learns_one_scene(backend):
    x = scene("random_sparse").tensor(3, torch.float32)
    labels = (x.coords[:, 1] > 3).long() + 2 * (x.coords[:, 3] > 3).long()
    net = small_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    first = None
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(net(x).features, labels)
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first
    assert (net(x).features.argmax(1) == labels).float().mean() > 0.95


def test_checkpoint_round_trip():
    x = scene("random_sparse").tensor(3, torch.float32)
    net = small_net()
    net(x)
    stream = io.BytesIO()
    torch.save(net.state_dict(), stream)
    stream.seek(0)
    fresh = sc.models.MinkUNet(3, 4, SMALL, blocks=1)
    fresh.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(fresh.eval()(x).features, net.eval()(x).features)


def test_double_precision_agrees_with_single():
    x = scene("random_sparse").tensor(3, torch.float32)
    net = small_net().eval()
    wide = copy.deepcopy(net).to(torch.float64)(x.to(torch.float64)).features
    torch.testing.assert_close(net(x).features.double(), wide, **NET)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_trains_with_float32_parameters(backend, dtype):
    x = scene("random_sparse").tensor(3, torch.float32)
    net = small_net()
    with torch.autocast("cpu", dtype=dtype):
        y = net(x)
        loss = y.features.float().square().mean()
    loss.backward()
    assert y.dtype == dtype
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in net.parameters())
    full = net.eval()(x).features
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        half = net(x).features
    assert (half.float() - full).abs().max() < 0.1 * full.abs().max()


def test_the_reference_and_the_kernels_agree_on_a_room():
    coords = room(3000)
    x = sc.SparseTensor(coords, torch.randn(len(coords), 3))
    net = small_net().eval()
    with torch.no_grad():
        y = net(x).features
        with sc.use_backend("reference"):
            z = net(sc.SparseTensor(x.coords, x.features)).features
    torch.testing.assert_close(y / z.abs().max(), z / z.abs().max(), **NET)
