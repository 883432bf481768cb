"""Kernels and taps that both move equal the sum over taps, cells and corners, gradients too."""

from itertools import product

import pytest
import torch
from torch.nn import functional as dense

import sparseconv as sc
from sparseconv.nn.conv.deformable_kernel_conv import DeformKernelConv3d
from sparseconv.nn.conv.local_deformable_kernel import LocalDeformKernel3d
from sparseconv.ops.blocks import block_index
from sparseconv.ops.moved_kernel import moved_kernel
from sparseconv.testing import laws, oracle
from sparseconv.testing.between import at_sites, grid_of, read_between
from sparseconv.testing.scenes import room, scene

EXACT = {"rtol": 1e-9, "atol": 1e-9}
C = 4


def stirred(layer, spread=0.2):
    """Draw the offsets' parameters too, so that taps and places move by one or so."""
    for parameter in layer.conv_offset.parameters():
        torch.nn.init.normal_(parameter, std=spread)
    return layer.double()


def read_kernel(weight, q):
    """The kernel [C, 1, Sx, Sy, Sz] at places [M, C, 3]: [M, C]."""
    total = 0
    for cell in product(*(range(n) for n in weight.shape[2:])):
        near = (1 - (q - torch.tensor(cell)).abs()).clamp(min=0).prod(-1)
        total = total + near * weight[(slice(None), 0, *cell)]
    return total


def expected(layer, x, spec, sites):
    grid = grid_of(x.features, x.coords, x.batch_size, x.spatial_shape)
    sides = [side for a in (2, 1, 0) for side in (spec.left[a], spec.right[a])]
    heads, groups = layer.conv_offset, layer.rotation_groups
    given = heads.weight, heads.bias, spec.stride, 0, spec.dilation
    values = at_sites(dense.conv3d(dense.pad(grid, sides), *given), sites)
    moves, turns = values.reshape(len(sites), 2, groups, len(spec.taps), 3).unbind(1)
    if isinstance(layer.clip, tuple):
        turns = turns.clamp(*layer.clip)
    scope, total = torch.tensor(layer.weight.shape[2:]), 0
    turn = torch.arange(x.channels) % groups
    for t, tap in enumerate(spec.taps):
        q = torch.tensor(tap) + (scope - torch.tensor(spec.kernel)) / 2 + turns[:, :, t]
        if layer.clip == "scope":
            q = torch.minimum(q.clamp(min=0), scope - 1.0)
        corner = [
            [o * s - p + i * d for o, s, p, i, d in zip(site[1:], *shape, strict=True)]
            for site in sites
            for shape in [(spec.stride, spec.left, tap, spec.dilation)]
        ]
        p = torch.tensor(corner).double().reshape(-1, 1, 3) + moves[:, :, t]
        # one tap, each channel a group of its own
        items = [site[0] for site in sites]
        read = read_between(grid, items, p[:, turn][:, None])[:, 0]
        total = total + read_kernel(layer.weight, q[:, turn]) * read
    return total if layer.bias is None else total + layer.bias


CASES = {
    "plain": (3, 1, "subm", 1, {}),
    "groups": (3, 1, "subm", 1, {"rotation_groups": 2, "bias": True}),
    "dilated": ((1, 3, 3), 1, "subm", 2, {"scope": (2, 3, 4), "clip": "scope"}),
    "strided": (2, 2, 1, 1, {"scope": 3, "clip": (-0.5, 0.25), "rotation_groups": 4}),
}


@pytest.mark.parametrize("case", CASES)
def test_forward_and_gradients(backend, case):
    *shape, options = CASES[case]
    scope = options.get("scope", 4)
    rest = {name: value for name, value in options.items() if name != "scope"}
    layer = stirred(DeformKernelConv3d(C, scope, *shape, **rest))
    x = scene("random_sparse").tensor(C)
    x = sc.SparseTensor(x.coords[:20], x.features[:20], x.spatial_shape, x.batch_size)
    features = x.features.requires_grad_()
    spec = oracle.Spec.of(*("same" if value == "subm" else value for value in shape))
    sites = oracle.sites_of(x.coords)
    if shape[2] != "subm":
        sites = oracle.conv_sites(sites, spec, x.spatial_shape)
    y = layer(x)
    assert oracle.sites_of(y.coords) == sites
    right = expected(layer, x, spec, sites)
    torch.testing.assert_close(y.features, right, **EXACT)
    leaves, probe = (features, *layer.parameters()), torch.randn_like(right)
    ours = torch.autograd.grad(y.features, leaves, probe)
    wanted = torch.autograd.grad(right, leaves, probe)
    for a, b in zip(ours, wanted, strict=True):
        assert b.any()
        torch.testing.assert_close(a, b, **EXACT)


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
            torch.testing.assert_close(a / scale, b / scale, rtol=1e-4, atol=1e-5)
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
