"""Local deformable kernels equal the published sum over taps and corners, gradients too."""

import pytest
import torch
from torch.nn import functional as dense

import sparseconv as sc
from sparseconv.functional.deform_kernel import deform_kernel3d
from sparseconv.nn.conv.local_deformable_kernel import LocalDeformKernel3d
from sparseconv.ops.deform_kernel import deform_kernel
from sparseconv.testing import laws, oracle
from sparseconv.testing.between import at_sites, grid_of
from sparseconv.testing.kernel_layers import (
    CASES,
    EXACT,
    check,
    place_in_kernel,
    read_kernel,
    stirred,
)
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance

C = 4


def expected(layer, x, spec, sites):
    grid = grid_of(x.features, x.coords, x.batch_size, x.spatial_shape)
    sides = [side for a in (2, 1, 0) for side in (spec.left[a], spec.right[a])]
    padded, heads = dense.pad(grid, sides), layer.conv_offset
    given = heads.weight, heads.bias, spec.stride, 0, spec.dilation
    values = at_sites(dense.conv3d(padded, *given), sites)
    values = values.reshape(len(sites), layer.rotation_groups, len(spec.taps), 3)
    row_of = {site: n for n, site in enumerate(oracle.sites_of(x.coords))}
    total = 0
    for t, tap in enumerate(spec.taps):
        q = place_in_kernel(layer, tap, spec, values[:, :, t])
        rows = torch.tensor([row_of.get(spec.reads(site, tap), -1) for site in sites])
        read = x.features[rows] * (rows >= 0)[:, None]
        total = total + read_kernel(layer.weight, q) * read
    return total if layer.bias is None else total + layer.bias


@pytest.mark.parametrize("case", CASES)
def test_forward_and_gradients(backend, case):
    check(LocalDeformKernel3d, expected, case, rows=40)


@pytest.mark.parametrize("name", ["random_sparse", "full_cube", "one_voxel", "int32_limits"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_kernel_no_larger_than_the_taps_is_a_depthwise_one(backend, name, groups):
    x = scene(name).tensor(C)
    layer = LocalDeformKernel3d(C, 3, rotation_groups=groups, dtype=torch.float64)
    plain = sc.nn.SubMConv3d(C, C, 3, groups=C, bias=False, dtype=torch.float64)
    plain.load_state_dict({"weight": layer.weight})
    torch.testing.assert_close(layer(x).features, plain(x).features, **EXACT)


def test_a_cell_more_makes_every_weight_a_mean_of_eight(backend):
    x = scene("random_sparse").tensor(C)
    layer = LocalDeformKernel3d(C, 4, dtype=torch.float64)
    plain = sc.nn.SubMConv3d(C, C, 3, groups=C, bias=False, dtype=torch.float64)
    with torch.no_grad():
        plain.weight.copy_(dense.avg_pool3d(layer.weight, 2, 1))
    torch.testing.assert_close(layer(x).features, plain(x).features, **EXACT)


def test_laws(backend):
    layer = stirred(LocalDeformKernel3d(C, rotation_groups=2))
    x = scene("random_sparse").tensor(C)
    laws.permutation(layer, x, **EXACT)
    laws.translation(layer, x, (1, -2, 10**8), **EXACT)
    laws.isolation(layer, scene("same_xyz").tensor(C))
    laws.batch_independence(layer, x.unbatch(), **EXACT)
    assert layer(scene("empty").tensor(C)).features.shape == (0, C)


def test_dense_input_and_given_sites(backend):
    layer = stirred(LocalDeformKernel3d(C, 3, 2, stride=2, padding=0))
    x = scene("full_cube").tensor(C)
    right = layer(x).dense(layer.geometry.output_shape(x.spatial_shape))
    torch.testing.assert_close(layer(x.dense()), right, **EXACT)
    torch.testing.assert_close(layer(x, layer(x)).features, layer(x).features, **EXACT)


def test_places_beyond_the_kernel_weigh_nothing(backend):
    x = scene("line").tensor(C)
    layer = LocalDeformKernel3d(C, dtype=torch.float64)
    for value in (9.0, -1e30, float("nan")):
        with torch.no_grad():
            layer.conv_offset.bias.fill_(value)
        layer.zero_grad()
        y = layer(x).features
        assert not y.any()
        y.sum().backward()
        assert not layer.conv_offset.bias.grad.any() and not layer.weight.grad.any()


def test_autocast_keeps_the_places():
    x = scene("random_sparse").tensor(C, torch.float32)
    layer = stirred(LocalDeformKernel3d(C)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, places = layer.places(x)
        y = layer(x)
    assert places.dtype == torch.float32 and y.dtype == torch.bfloat16
    near = {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(y.features.float(), layer(x).features, **near)


def test_one_graph_whatever_is_clipped():
    x = scene("random_sparse").tensor(C, torch.float32)
    for clip in ("scope", (-0.5, 0.5)):
        layer = stirred(LocalDeformKernel3d(C, clip=clip)).float()

        def run(coords, features, layer=layer):
            return layer(sc.SparseTensor(coords, features, (8, 8, 8), batch_size=3)).features

        compiled = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
        y = compiled(x.coords, x.features)
        torch.testing.assert_close(
            y, run(x.coords, x.features), **tolerance(torch.float32, "kernel")
        )
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scope": 2}, "scope: expected at least the kernel size"),
        ({"rotation_groups": 3}, "rotation_groups: expected a divisor of channels 4"),
        ({"clip": (1, -1)}, "clip: expected 'scope', two rising numbers or None"),
        ({"clip": "all"}, "clip: expected 'scope'"),
        ({"stride": 2}, "padding: expected a number"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(ValueError, match=words):
        LocalDeformKernel3d(4, **change)


def test_refused_calls():
    x = scene("line").tensor(4, torch.float32)
    book = sc.rulebook(x, 3)
    rows, places = (book.in_rows, book.out_rows, book.segments), torch.zeros(9, 27, 1, 3)
    weight = torch.ones(27, 4)
    calls = {
        "scope: expected three": (x.features, weight, places, *rows, [3, 3]),
        r"weight: expected shape \[27, 4\]": (x.features, weight[1:], places, *rows, [3] * 3),
        r"places: expected shape \[M, 27, R, 3\]": (
            x.features,
            weight,
            places[:, 1:],
            *rows,
            [3] * 3,
        ),
        "places: expected groups": (
            x.features,
            weight,
            places.expand(9, 27, 3, 3),
            *rows,
            [3] * 3,
        ),
    }
    for words, given in calls.items():
        with pytest.raises(ValueError, match=words):
            deform_kernel(*given)
    with pytest.raises(TypeError, match="places: expected float32 or float64"):
        deform_kernel(x.features, weight, places.half(), *rows, [3] * 3)
    kernel = torch.ones(4, 1, 3, 3, 3)
    geometry = sc.nn.SubMConv3d(4, 4, 3).geometry
    kernel.requires_grad_()
    y = deform_kernel3d(x, kernel, places + 0.5, geometry, x)
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(y.features.sum(), kernel, create_graph=True)[0].sum().backward()
