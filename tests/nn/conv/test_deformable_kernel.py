"""A global deformable kernel equals a dense convolution with the kernel read in plain loops."""

import math

import pytest
import torch

from sparseconv import nn
from sparseconv.testing import laws
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scans import convolved, means
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}


def stirred(layer, size=0.3):
    with torch.no_grad():
        for p in layer.fc.parameters():
            p += size * torch.randn_like(p)
    return layer


def read(weight, moved, size, scope):
    """Read the kernel of one scan: [D, C / G, kx, ky, kz] from [D, C / G, Sx, Sy, Sz]."""
    columns, tap = [], 0
    for ix in range(size[0]):
        for iy in range(size[1]):
            for iz in range(size[2]):
                total = 0
                at = []
                for axis, i in enumerate((ix, iy, iz)):
                    p = moved[tap, axis] + i + (scope[axis] - size[axis]) / 2
                    at.append(p.clamp(0, scope[axis] - 1))
                for sx in range(scope[0]):
                    for sy in range(scope[1]):
                        for sz in range(scope[2]):
                            share = math.prod(
                                (1 - (p - s).abs()).clamp(min=0)
                                for p, s in zip(at, (sx, sy, sz), strict=True)
                            )
                            total = total + share * weight[:, :, sx, sy, sz]
                columns.append(total)
                tap += 1
    return torch.stack(columns, -1).reshape(*weight.shape[:2], *size)


CASES = {
    "cube": ((4, 6, 3, 2), {"padding": "subm", "bias": True}, Spec.of(2, 1, "same")),
    "groups": ((4, 6, (4, 3, 1), (3, 2, 1)), {"padding": "subm", "groups": 2}, None),
    "depthwise": ((4, 4, 2, 2), {"padding": "subm", "groups": 4}, Spec.of(2, 1, "same")),
    "strided": ((4, 6, 3, 2), {"stride": 2}, Spec.of(2, 2)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pool", ["active", "volume"])
@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item"])
def test_dense_scan_by_scan(backend, name, pool, case):
    x = scene(name).tensor(4)
    x.features.requires_grad_()
    arguments, options, spec = CASES[case]
    layer = stirred(nn.GlobalDeformKernel3d(*arguments, pool=pool, **options, **WIDE))
    size = layer.geometry.size
    spec = spec or Spec.of(size, 1, "same")
    moved = means(x, pool) @ layer.fc.weight.T + layer.fc.bias
    moved = moved.reshape(x.batch_size, -1, 3)
    kernels = torch.stack([read(layer.weight, m, size, layer.scope) for m in moved])
    bias = None if layer.bias is None else layer.bias.expand(x.batch_size, -1)
    y = layer(x)
    expected = at_sites(convolved(grid_of(x), kernels, bias, spec, layer.groups), y)
    leaves = [x.features, layer.weight, layer.bias, *layer.fc.parameters()]
    assert_twins(y.features, expected, [t for t in leaves if t is not None])


def test_a_dense_tensor_is_a_full_grid():
    x = scene("full_cube").tensor(4)
    layer = stirred(nn.GlobalDeformKernel3d(4, 6, 4, 3, padding="subm", **WIDE))
    torch.testing.assert_close(at_sites(layer(grid_of(x)), x), layer(x).features)


def test_a_scope_of_the_kernels_size_is_as_made_a_plain_convolution(backend):
    x = scene("random_sparse").tensor(4)
    layer = nn.GlobalDeformKernel3d(4, 4, 3, 3, padding="subm", groups=4, **WIDE)
    plain = nn.SubMConv3d(4, 4, 3, groups=4, bias=False, **WIDE)
    with torch.no_grad():
        plain.weight.copy_(layer.weight)
    y = layer(x)
    torch.testing.assert_close(y.features, plain(x).features)
    y.features.square().sum().backward()
    assert layer.fc.bias.grad.reshape(-1, 3).any(0).all(), "at the cells there is a slope too"


def test_a_larger_scope_is_averaged_not_cropped():
    x = scene("random_sparse").tensor(4)
    layer = nn.GlobalDeformKernel3d(4, 6, 4, 3, padding="subm", **WIDE)
    plain = nn.SubMConv3d(4, 6, 3, bias=False, **WIDE)
    with torch.no_grad():
        plain.weight.copy_(torch.nn.functional.avg_pool3d(layer.weight, 2, 1))
    torch.testing.assert_close(layer(x).features, plain(x).features)


def test_the_scopes_limits_hold_axis_by_axis():
    layer = nn.GlobalDeformKernel3d(1, 1, (2, 3, 5), 1, padding="subm", **WIDE)
    x = scene("one_voxel").tensor(1)
    with torch.no_grad():
        layer.fc.bias.fill_(100)
    assert layer.positions(x).tolist() == [[[1, 2, 4]]]
    with torch.no_grad():
        layer.fc.bias.fill_(-100)
    assert layer.positions(x).tolist() == [[[0, 0, 0]]]


def test_scans_do_not_meet(backend):
    layer = stirred(nn.GlobalDeformKernel3d(4, 6, 4, 3, padding="subm", **WIDE))
    laws.isolation(layer, scene("same_xyz").tensor(4))


def test_refusals():
    with pytest.raises(ValueError, match=r"scope: expected at least the kernel's size \(3, 3, 3\)"):
        nn.GlobalDeformKernel3d(4, 4, (3, 2, 3), 3)
    with pytest.raises(ValueError, match="input of GlobalDeformKernel3d"):
        nn.GlobalDeformKernel3d(4, 4, 3, 3)(scene("random_sparse").tensor(3))
    assert "scope=(4, 4, 4)" in repr(nn.GlobalDeformKernel3d(4, 4, 4, 3))
