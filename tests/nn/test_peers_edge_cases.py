"""The cases in which other libraries crash or are wrong, one test a row of the list."""

import threading

import pytest
import torch

import sparseconv as sc
from sparseconv import nn
from sparseconv.testing import laws, oracle
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance

SAME = tolerance(torch.float64, "choice")


def down_and_up(dtype=torch.float32):
    wide = {"dtype": dtype}
    return nn.Sequential(
        nn.SubMConv3d(3, 5, 3, **wide),
        nn.BatchNorm(5, **wide),
        nn.ReLU(),
        nn.SparseConv3d(5, 6, 2, 2, **wide),
        nn.SparseConv3d(6, 6, 3, 2, 1, **wide),
        nn.SparseInverseConv3d(6, 6, 3, **wide),
        nn.SparseInverseConv3d(6, 5, 2, **wide),
        nn.SparseConvTranspose3d(5, 4, 2, 2, **wide),
        nn.SparseGenerativeConv3d(4, 4, 2, **wide),
        nn.MaxPool3d(2),
        nn.AvgPool3d(3, 2, 1),
        nn.SumPool3d(2),
        nn.Unpool(),
    )


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("bound", [None, (8, 8, 8)], ids=["unbounded", "bounded"])
def test_no_sites_through_every_layer_and_back(backend, training, bound):
    coords = torch.zeros(0, 4, dtype=torch.int32)
    features = torch.zeros(0, 3, requires_grad=True)
    net = down_and_up().train(training)
    x = sc.SparseTensor(coords, features, bound, 2)
    y = net(x)
    assert len(y) == 0 and y.channels == 4 and y.batch_size == 2
    for pooled in (nn.GlobalAvgPool()(y), nn.GlobalMaxPool()(y), nn.GlobalSumPool()(y)):
        assert pooled.shape == (2, 4) and not pooled.any()
        pooled.sum().backward(retain_graph=True)
    y.features.sum().backward()
    assert features.grad.shape == (0, 3)
    for parameter in net.parameters():
        assert parameter.grad is None or not parameter.grad.isnan().any()


@pytest.mark.parametrize("name", ["empty_batch_item", "empty_last_item", "one_voxel"])
def test_an_empty_batch_item_forward_and_backward(backend, name):
    x = scene(name).tensor(3, torch.float32)
    features = x.features.requires_grad_()
    net = down_and_up()
    y = net(x)
    assert y.batch_size == x.batch_size
    y.features.square().sum().backward()
    assert features.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_one_by_one_kernel_is_a_linear_layer_with_that_weight(backend):
    x = scene("random_sparse").tensor(4)
    for layer in (
        nn.SubMConv3d(4, 3, 1, dtype=torch.float64),
        nn.SparseConv3d(4, 3, 1, dtype=torch.float64),
    ):
        flat = torch.nn.functional.linear(x.features, layer.weight[:, :, 0, 0, 0], layer.bias)
        laws.assert_same(layer(x), x.replace(features=flat))


@pytest.mark.parametrize("far", [10**5, 10**6, 17_000_000, 10**8, 2**31 - 20, -(2**31) + 20])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_coordinates_of_any_size(backend, far, axis):
    near = scene("random_sparse").tensor(3)
    near = laws.like(near, near.coords, near.features, spatial_shape=None)
    step = torch.zeros(4, dtype=torch.int32)
    step[axis] = far - far % 2
    away = laws.like(near, near.coords + step, near.features)
    layer = nn.SubMConv3d(3, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(away).features, layer(near).features, **SAME)
    pool = nn.SparseConv3d(3, 5, 2, 2, dtype=torch.float64)
    y, z = pool(near), pool(away)
    half = step.clone()
    half[axis] = (far - far % 2) // 2
    laws.assert_same(laws.like(y, y.coords + half, y.features), z, **SAME)


def test_two_scans_at_opposite_ends_of_int32(backend):
    coords = torch.tensor([[0, 2**31 - 1, 0, -(2**31)], [1, -(2**31), 0, 2**31 - 1]]).int()
    x = sc.SparseTensor(coords, torch.randn(2, 3))
    layer = nn.SubMConv3d(3, 2, 3)
    centre = x.features @ layer.weight[:, :, 1, 1, 1].T + layer.bias
    torch.testing.assert_close(layer(x).features, centre)


def test_a_convolution_that_leaves_int32_is_refused(backend):
    x = sc.SparseTensor(torch.tensor([[0, 2**31 - 1, 0, 0]]), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"int32.*origin"):
        nn.SparseConv3d(2, 2, 3, padding=1)(x)
    with pytest.raises(ValueError, match="int32"):
        nn.SparseConvTranspose3d(2, 2, 2, 2)(x)


def test_duplicates_are_refused_unless_reduced():
    view = scene("duplicates")
    with pytest.raises(ValueError, match="every site once"):
        view.tensor(3)
    merged = sc.SparseTensor(view.coords, view.features(3), batch_size=2, duplicates="sum")
    assert len(merged) == len(torch.unique(view.coords, dim=0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_dtype_forward_and_backward(backend, dtype):
    x = scene("random_sparse").tensor(3, dtype)
    x.features.requires_grad_()
    layer = nn.SubMConv3d(3, 5, 3, dtype=dtype)
    y = layer(x)
    assert y.dtype == dtype
    sites = oracle.sites_of(x.coords)
    pairs = oracle.triples(sites, sites, Spec.of(3, 1, 1))
    weight = oracle.weight_by_tap(layer.weight.detach())
    expected = oracle.convolve(x.features.detach(), weight, layer.bias.detach(), pairs, len(x))
    torch.testing.assert_close(y.features.double(), expected, **tolerance(dtype, "forward", 81))
    y.features.sum().backward()
    assert x.features.grad.dtype == layer.weight.grad.dtype == dtype
    assert x.features.grad.isfinite().all() and layer.weight.grad.isfinite().all()


def test_unsorted_batch_column(backend):
    x = scene("random_sparse").tensor(3)
    assert (x.coords[:, 0].diff() < 0).any(), "the scene interleaves its scans"
    layer = nn.SubMConv3d(3, 4, 3, dtype=torch.float64)
    order = torch.argsort(x.coords[:, 0], stable=True)
    y = layer(laws.like(x, x.coords[order], x.features[order]))
    assert torch.equal(layer(x).features[order], y.features)


def test_non_contiguous_coords_and_features(backend):
    x = scene("random_sparse").tensor(3)
    layer = nn.SubMConv3d(3, 4, 3, dtype=torch.float64)
    expected = layer(x).features
    coords = torch.cat([x.coords, x.coords], 1)[:, 4:]
    features = x.features.T.contiguous().T
    assert not coords.is_contiguous() and not features.is_contiguous()
    y = sc.SparseTensor(coords, features, x.spatial_shape, x.batch_size)
    torch.testing.assert_close(layer(y).features, expected, **tolerance(torch.float64, "formula"))
    strided = torch.repeat_interleave(x.features, 2, 0)[::2]
    torch.testing.assert_close(layer(x.replace(features=strided)).features, expected)


def test_three_python_threads_on_one_module(backend):
    net = down_and_up(torch.float64).eval()
    tensors = [scene(n).tensor(3) for n in ("random_sparse", "backwards", "negative")]
    with torch.no_grad():
        expected = [net(x).features for x in tensors]
    found: dict[int, list] = {0: [], 1: [], 2: []}

    def work(number):
        view = ("random_sparse", "backwards", "negative")[number]
        with torch.no_grad():
            for _ in range(5):
                found[number].append(net(scene(view).tensor(3)).features)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, results in found.items():
        assert len(results) == 5
        assert all(torch.equal(r, expected[number]) for r in results)


def test_three_python_threads_on_one_tensor(backend):
    # all find the rulebook missing at once
    x = scene("surface").tensor(3)
    layer = nn.SubMConv3d(3, 4, 3, dtype=torch.float64)
    expected = layer(scene("surface").tensor(3)).features
    found = []

    def work():
        found.append(layer(x).features)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and all(torch.equal(f, expected) for f in found)


def test_dilation_of_a_transposed_convolution_counts_in_its_extent():
    x = scene("one_voxel").tensor(2)
    layer = nn.SparseConvTranspose3d(2, 2, 3, 2, dilation=3, dtype=torch.float64)
    assert layer(x).spatial_shape == tuple(layer(x.dense()).shape[2:])


def test_bias_is_not_needed_for_the_backward(backend):
    x = scene("random_sparse").tensor(2)
    x.features.requires_grad_()
    nn.SubMConv3d(2, 2, 3, bias=False, dtype=torch.float64)(x).features.sum().backward()
    assert x.features.grad.any()


def test_second_derivatives_are_whole(backend):
    x = scene("empty_batch_item").tensor(2)
    net = nn.Sequential(
        nn.SubMConv3d(2, 2, 3, dtype=torch.float64),
        nn.SiLU(),
        nn.SparseConv3d(2, 2, 2, 2, dtype=torch.float64),
        nn.SparseInverseConv3d(2, 2, 2, dtype=torch.float64),
    )
    weights = tuple(net.parameters())

    def run(features, *parameters):
        names = dict(zip(dict(net.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(net, names, (x.replace(features=features),)).features

    given = (x.features.requires_grad_(), *weights)
    assert torch.autograd.gradcheck(run, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, given, fast_mode=True)
