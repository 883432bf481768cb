"""Kernels and taps that both move equal the sum over taps, cells and corners, gradients too."""

import pytest
import torch
from torch.nn import functional as dense

import sparseconv as sc
from sparseconv.nn.conv.deformable_kernel_conv import DeformKernelConv3d
from sparseconv.nn.conv.local_deformable_kernel import LocalDeformKernel3d
from sparseconv.ops.blocks import block_index
from sparseconv.ops.moved_kernel import moved_kernel
from sparseconv.testing import laws
from sparseconv.testing.between import at_sites, grid_of, read_between
from sparseconv.testing.kernel_layers import (
    CASES,
    EXACT,
    check,
    place_in_kernel,
    read_kernel,
    stirred,
)
from sparseconv.testing.scenes import room, scene
from sparseconv.testing.tolerances import tolerance

C = 4


def expected(layer, x, spec, sites):
    grid = grid_of(x.features, x.coords, x.batch_size, x.spatial_shape)
    sides = [side for a in (2, 1, 0) for side in (spec.left[a], spec.right[a])]
    heads, groups = layer.conv_offset, layer.rotation_groups
    given = heads.weight, heads.bias, spec.stride, 0, spec.dilation
    values = at_sites(dense.conv3d(dense.pad(grid, sides), *given), sites)
    moves, turns = values.reshape(len(sites), 2, groups, len(spec.taps), 3).unbind(1)
    total = 0
    turn = torch.arange(x.channels) % groups
    for t, tap in enumerate(spec.taps):
        q = place_in_kernel(layer, tap, spec, turns[:, :, t])
        corner = [
            [o * s - p + i * d for o, s, p, i, d in zip(site[1:], *shape, strict=True)]
            for site in sites
            for shape in [(spec.stride, spec.left, tap, spec.dilation)]
        ]
        p = torch.tensor(corner).double().reshape(-1, 1, 3) + moves[:, :, t]
        # one tap, each channel a group of its own
        items = [site[0] for site in sites]
        read = read_between(grid, items, p[:, turn][:, None])[:, 0]
        total = total + read_kernel(layer.weight, q) * read
    return total if layer.bias is None else total + layer.bias


@pytest.mark.parametrize("case", CASES)
def test_forward_and_gradients(backend, case):
    check(DeformKernelConv3d, expected, case, rows=20)


@pytest.mark.parametrize("name", ["random_sparse", "full_cube", "one_voxel", "int32_limits"])
@pytest.mark.parametrize("groups", [1, 2])
def test_at_first_it_is_the_local_kernel(backend, name, groups):
    x = scene(name).tensor(C)
    layer = DeformKernelConv3d(C, 4, rotation_groups=groups, dtype=torch.float64)
    local = LocalDeformKernel3d(C, 4, rotation_groups=groups, dtype=torch.float64)
    local.load_state_dict({"weight": layer.weight}, strict=False)
    torch.testing.assert_close(layer(x).features, local(x).features, **EXACT)
    # and still, where the offsets of the kernel alone are at work
    with torch.no_grad():
        for module in (layer, local):
            rows = slice(-81 * groups, None)
            module.conv_offset.bias[rows] = torch.linspace(-0.9, 0.8, 81 * groups).double()
    torch.testing.assert_close(layer(x).features, local(x).features, **EXACT)
    places = layer.places(x)[1]
    torch.testing.assert_close(places, local.places(x)[1], **EXACT)


def test_a_kernel_of_ones_sums_what_deformable_taps_read(backend):
    x = scene("random_sparse").tensor(C)
    layer = stirred(DeformKernelConv3d(C, 3, clip="scope"))
    plain = sc.nn.DeformConv3d(C, C, 3, padding="subm", groups=C, bias=False).double()
    with torch.no_grad():
        layer.weight.fill_(1.0)
        plain.weight.fill_(1.0)
        plain.conv_offset.weight.copy_(layer.conv_offset.weight[:81])
        plain.conv_offset.bias.copy_(layer.conv_offset.bias[:81])
    torch.testing.assert_close(layer(x).features, plain(x).features, **EXACT)


def test_laws(backend):
    layer = stirred(DeformKernelConv3d(C, rotation_groups=2))
    x = scene("random_sparse").tensor(C)
    laws.permutation(layer, x, **EXACT)
    laws.translation(layer, x, (1, -2, 10**8), **EXACT)
    laws.isolation(layer, scene("same_xyz").tensor(C))
    laws.batch_independence(layer, x.unbatch(), **EXACT)
    assert layer(scene("empty").tensor(C)).features.shape == (0, C)


def test_dense_input(backend):
    layer = stirred(DeformKernelConv3d(C, 3, bias=True))
    x = scene("full_cube").tensor(C)
    torch.testing.assert_close(layer(x.dense()), layer(x).dense(), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_small_floats_and_autocast(dtype):
    layer, x = stirred(DeformKernelConv3d(C)), scene("random_sparse").tensor(C)
    right = layer(x).features
    layer, low = layer.to(dtype), x.replace(features=x.features.to(dtype).requires_grad_())
    y = layer(low).features
    y.double().square().sum().backward()
    assert y.dtype == low.features.grad.dtype == layer.weight.grad.dtype == dtype
    # offsets themselves are rounded, so that taps move by as much
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.3, "atol": 0.1}
    torch.testing.assert_close(y.double(), right, **close)
    layer = layer.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x.replace(features=x.features.float()))
    assert y.features.dtype == torch.bfloat16


def test_in_a_traced_graph():
    layer = stirred(DeformKernelConv3d(C, rotation_groups=2, clip="scope")).float()
    torch._dynamo.reset()

    def run(coords, features):
        return layer(sc.SparseTensor(coords, features, (64, 64, 64), batch_size=1)).features

    traced = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in (200, 333):
        coords = room(size, seed=size)
        coords[:, 1:] -= coords[:, 1:].amin(0)
        found = []
        for call in (run, traced):
            torch.manual_seed(1)
            features = torch.randn(len(coords), C, requires_grad=True)
            y = call(coords, features)
            made = torch.autograd.grad(y.square().sum(), (features, *layer.parameters()))
            found.append((y, *made))
        for a, b in zip(*found, strict=True):
            scale = b.abs().max().clamp(min=1)
            torch.testing.assert_close(a / scale, b / scale, **tolerance(torch.float32, "traced"))
    torch._dynamo.reset()
    coords = room(100)
    coords[:, 1:] -= coords[:, 1:].amin(0)

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, coords, features):
            return self.layer(sc.SparseTensor(coords, features, (64, 64, 64), 1)).features

    features = torch.randn(len(coords), C)
    rows = torch.export.Dim("rows", min=2, max=10000)
    program = torch.export.export(
        Whole(), (coords, features), dynamic_shapes={"coords": {0: rows}, "features": {0: rows}}
    )
    torch.testing.assert_close(program.module()(coords, features), run(coords, features))


def test_little_is_kept_and_nothing_of_all_taps(monkeypatch):
    x = scene("random_sparse").tensor(64, torch.float32)
    x.features.requires_grad_()
    layer = DeformKernelConv3d(64, 3)
    kept = {}

    def keep(tensor):
        if tensor.is_floating_point() and tensor.shape[:1] == x.features.shape[:1]:
            kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x)
    assert 1 < sum(kept.values()) / x.features.numel() < 4


def test_refusals():
    with pytest.raises(ValueError, match="scope: expected at least the kernel size"):
        DeformKernelConv3d(4, 2)
    with pytest.raises(ValueError, match="rotation_groups: expected a divisor"):
        DeformKernelConv3d(4, rotation_groups=3)
    layer = DeformKernelConv3d(4)
    assert "scope=(4, 4, 4)" in repr(layer)
    x = scene("line").tensor(4, torch.float32)
    y = layer(x.replace(features=x.features.requires_grad_()))
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(y.features.sum(), x.features, create_graph=True)[0].sum().backward()


SITES = torch.tensor([[0, 0, 0, z] for z in range(3)], dtype=torch.int32)
GIVEN = {
    "features": torch.ones(3, 4),
    "coords": SITES,
    "blocks": block_index(SITES),
    "sites": SITES[:2],
    "heads": torch.zeros(2, 24),
    "grid": torch.zeros(2, 3),
    "kernel": torch.ones(12, 4),
    "start": torch.zeros(2, 3),
    "scope": [2, 2, 3],
    "parts": 2,
}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"heads": GIVEN["heads"].half()}, TypeError, "heads: expected float32 on cpu"),
        ({"heads": GIVEN["heads"][:, 1:]}, ValueError, r"heads: expected shape \[M, 24\]"),
        ({"heads": GIVEN["heads"][:1]}, ValueError, "heads: expected 2 rows"),
        ({"start": torch.zeros(1, 3)}, ValueError, "start: expected two axes"),
        ({"scope": [2, 0, 3]}, ValueError, "scope: expected three ints"),
        ({"kernel": torch.ones(11, 4)}, ValueError, r"kernel: expected shape \[12, 4\]"),
        ({"kernel": torch.ones(12, 4).double()}, TypeError, "kernel: expected"),
        ({"parts": 3}, ValueError, "parts: expected a divisor of 4 channels"),
    ],
)
def test_what_the_op_refuses(change, error, words):
    assert moved_kernel(**GIVEN).shape == (2, 4)
    with pytest.raises(error, match=words):
        moved_kernel(**{**GIVEN, **change})
