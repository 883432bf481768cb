"""Kernels of a warehouse equal dense ones assembled part by part in plain loops."""

import copy

import pytest
import torch

from sparseconv import nn
from sparseconv.testing import laws
from sparseconv.testing.oracle import Spec
from sparseconv.testing.scans import convolved, means
from sparseconv.testing.scenes import scene
from sparseconv.testing.twins import assert_twins, at_sites, grid_of

WIDE = {"dtype": torch.float64}


def pair_of_layers(ratio=1.0, norm="layer", basis=1.0, **options):
    warehouse = nn.KernelWarehouse(ratio, norm=norm, nonlocal_basis_ratio=basis)
    a = warehouse.reserve(8, 4, 3, padding="subm", **options, **WIDE)
    b = warehouse.reserve(16, 12, (1, 2, 1), padding="subm", groups=2, bias=False, **WIDE)
    warehouse.store(**WIDE)
    return warehouse, a, b


def kernels_of(warehouse, layer, mean, temperature, start, ratio):
    """Assemble every scan's kernel, one part after the other."""
    hidden = mean @ layer.trunk.fc.weight.T
    centred = hidden - hidden.mean(1, keepdim=True)
    hidden = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    hidden = torch.relu(hidden * layer.trunk.norm.weight + layer.trunk.norm.bias)
    cells, (count, width, rows) = warehouse.cells[..., 0, 0, 0], warehouse.cells.shape[:3]
    size, per_group = layer.geometry.size, layer.in_channels // layer.groups
    taps = size[0] * size[1] * size[2]
    every = round(1 / ratio)
    found = []
    for b in range(len(mean)):
        if layer.basis is None:
            z = (layer.fc2.weight @ hidden[b] + layer.fc2.bias).reshape(-1, count + 1)
        else:
            # the cells of other layers, one by one, from fewer numbers
            fewer, own = layer.basis.weight.shape[1], count - len(layer.basis.weight)
            parts = []
            for made in (layer.fc2.weight @ hidden[b]).reshape(-1, own + fewer + 1):
                others = layer.basis.weight @ made[own : own + fewer]
                mixed = [*others[:start], *made[:own], *others[start:], made[-1]]
                parts.append(torch.stack(mixed))
            z = torch.stack(parts) + layer.basis_bias
        columns, part = [], 0
        for _ in range(taps):
            blocks = []
            for _ in range(layer.out_channels // width):
                row = []
                for _ in range(per_group // rows):
                    own = torch.zeros(count + 1, **WIDE)
                    if ratio >= 1:
                        own[start + part * round(ratio)] = 1
                    elif part % every == (part // every) % every:
                        own[start + part // every] = 1
                    else:
                        own[-1] = 1
                    share = z[part] / (z[part].abs().sum() + 1e-3)
                    share = temperature * own + (1 - temperature) * share
                    row.append(sum(share[j] * cells[j] for j in range(count)))
                    part += 1
                blocks.append(torch.cat(row, 1))
            columns.append(torch.cat(blocks, 0))
        found.append(torch.stack(columns, -1).reshape(layer.out_channels, per_group, *size))
    return torch.stack(found)


@pytest.mark.parametrize("name", ["random_sparse", "empty_batch_item"])
@pytest.mark.parametrize("ratio", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("which", [0, 1])
def test_dense_scan_by_scan(backend, name, ratio, which):
    warehouse, *layers = pair_of_layers(ratio)
    warehouse.set_temperature(0.25)
    layer = layers[which]
    start = 0 if which == 0 else round(layers[0].beta.shape[0] * ratio)
    x = scene(name).tensor(layer.in_channels)
    x.features.requires_grad_()
    kernels = kernels_of(warehouse, layer, means(x), 0.25, start, ratio)
    spec = Spec.of(layer.geometry.size, 1, "same")
    bias = None if layer.bias is None else layer.bias.expand(x.batch_size, -1)
    expected = at_sites(convolved(grid_of(x), kernels, bias, spec, layer.groups), x)
    leaves = [x.features, *layer.parameters(), *warehouse.parameters()]
    assert_twins(layer(x).features, expected, leaves)


@pytest.mark.parametrize(("ratio", "which"), [(1.0, 0), (2.0, 1), (0.5, 1)])
def test_shares_of_others_cells_from_fewer_numbers(backend, ratio, which):
    warehouse, *layers = pair_of_layers(ratio, basis=0.25)
    warehouse.set_temperature(0.25)
    layer = layers[which]
    counts = [round(a.beta.shape[0] * ratio) for a in layers]
    others = counts[1 - which]
    assert layer.basis.weight.shape == (others, max(others // 4, 16))
    with torch.no_grad():
        layer.basis_bias += torch.randn_like(layer.basis_bias)
    x = scene("random_sparse").tensor(layer.in_channels)
    x.features.requires_grad_()
    kernels = kernels_of(warehouse, layer, means(x), 0.25, counts[0] * which, ratio)
    spec = Spec.of(layer.geometry.size, 1, "same")
    bias = None if layer.bias is None else layer.bias.expand(x.batch_size, -1)
    expected = at_sites(convolved(grid_of(x), kernels, bias, spec, layer.groups), x)
    leaves = [x.features, *layer.parameters(), *warehouse.parameters()]
    assert_twins(layer(x).features, expected, leaves)


@pytest.mark.parametrize("options", [
    {"cell_in_ratio": 0.5, "cell_out_ratio": 0.25},
    {"spatial_partition": False, "cell_in_ratio": 0.5},
])  # fmt: skip
def test_cells_of_other_sizes(backend, options):
    warehouse = nn.KernelWarehouse(norm="layer", temperature=0.25, **options)
    _, b = (warehouse.reserve(8, d, (3, 1, 2), padding="subm", **WIDE) for d in (4, 8))
    warehouse.store(**WIDE)
    co, ci, *box = warehouse.cells.shape[1:]
    assert (co, ci) == (4 * options.get("cell_out_ratio", 1), 8 * options["cell_in_ratio"])
    assert box == ([1, 1, 1] if options.get("spatial_partition", True) else [3, 1, 2])
    x = scene("random_sparse").tensor(8)
    x.features.requires_grad_()
    shares, kernels = b.shares(x), []
    for share in shares:
        # block by block of the kernel, each the sum of all cells, times its shares
        kernel, part = torch.zeros(8, 8, 3, 1, 2, **WIDE), 0
        places = [(s, s + 1) for s in range(3)], [(s, s + 1) for s in range(2)]
        if box != [1, 1, 1]:
            places = [(0, 3)], [(0, 2)]
        for i, j in places[0]:
            for k, m in places[1]:
                for d in range(0, 8, co):
                    for c in range(0, 8, ci):
                        made = torch.tensordot(share[part], warehouse.cells, 1)
                        kernel[d : d + co, c : c + ci, i:j, :, k:m] = made
                        part += 1
        assert part == len(share)
        kernels.append(kernel)
    spec, bias = Spec.of((3, 1, 2), 1, "same"), b.bias.expand(x.batch_size, -1)
    expected = at_sites(convolved(grid_of(x), torch.stack(kernels), bias, spec, 1), x)
    assert_twins(b(x).features, expected, [x.features, *b.parameters(), warehouse.cells])


def test_a_layer_with_all_cells_needs_no_basis():
    layer = nn.KWConv3d(8, 8, 3, warehouse_options={"nonlocal_basis_ratio": 0.5}, **WIDE)
    assert layer.basis is None and layer.fc2.bias is not None


def test_strided_and_dense():
    layer = nn.KWConv3d(8, 8, 2, 2, warehouse_options={"norm": "layer", "temperature": 0.5}, **WIDE)
    grid = torch.randn(3, 8, 4, 6, 4, **WIDE)
    kernels = kernels_of(layer.warehouse, layer, grid.mean((2, 3, 4)), 0.5, 0, 1.0)
    bias = layer.bias.expand(3, -1)
    assert_twins(layer(grid), convolved(grid, kernels, bias, Spec.of(2, 2)), layer.parameters())


def test_at_temperature_one_a_static_convolution_of_its_own_cells(backend):
    warehouse, a, _ = pair_of_layers()
    x = scene("random_sparse").tensor(8)
    cells = warehouse.cells[..., 0, 0, 0]
    assert cells.shape[1:] == (4, 8)
    plain = nn.SubMConv3d(8, 4, 3, **WIDE)
    with torch.no_grad():
        own = cells[:27].reshape(3, 3, 3, 4, 8).permute(3, 4, 0, 1, 2)
        plain.weight.copy_(own)
        plain.bias.copy_(a.bias)
    torch.testing.assert_close(a(x).features, plain(x).features)


def test_shares_never_exceed_one():
    warehouse, a, _ = pair_of_layers()
    warehouse.set_temperature(0)
    shares = a.shares(scene("random_sparse").tensor(8))
    assert (shares.abs().sum(2) <= 1).all() and (shares < 0).any()


def test_a_cell_learns_from_all_layers():
    warehouse, a, b = pair_of_layers()
    warehouse.set_temperature(0)
    x, y = scene("random_sparse").tensor(8), scene("random_sparse").tensor(16)
    one, two = (
        torch.autograd.grad(f.square().sum(), warehouse.cells)[0]
        for f in (a(x).features, b(y).features)
    )
    both = a(x).features.square().sum() + b(y).features.square().sum()
    both.backward()
    assert one.any() and two.any()
    torch.testing.assert_close(warehouse.cells.grad, one + two)


def test_a_net_saves_copies_and_moves_the_warehouse_once():
    warehouse, a, b = pair_of_layers()
    net = torch.nn.ModuleDict({"warehouse": warehouse, "a": a, "b": b})
    assert [n for n in net.state_dict() if "cells" in n] == ["warehouse.cells"]
    twin = copy.deepcopy(net)
    x = scene("random_sparse").tensor(8)
    expected = a(x).features
    with torch.no_grad():
        warehouse.cells.zero_()
    torch.testing.assert_close(twin["a"](x).features, expected)
    net.load_state_dict(twin.state_dict())
    torch.testing.assert_close(a(x).features, expected)
    assert net.float()["a"](x.replace(features=x.features.float())).dtype == torch.float32


def test_scans_do_not_meet(backend):
    _, a, _ = pair_of_layers()
    laws.isolation(a, scene("same_xyz").tensor(8))


def test_refusals():
    with pytest.raises(ValueError, match="cell_num_ratio: expected a whole number"):
        nn.KernelWarehouse(1.5)
    with pytest.raises(ValueError, match="cell_num_ratio"):
        nn.KernelWarehouse(0)
    for options in ({"cell_in_ratio": 0.3}, {"cell_out_ratio": 2}, {"cell_in_ratio": 0.75}):
        cells = nn.KernelWarehouse(**options)
        cells.reserve(8, 4, 3)
        with pytest.raises(ValueError, match="ratio: expected a whole part of"):
            cells.store()
    cells = nn.KernelWarehouse(spatial_partition=False)
    cells.reserve(8, 4, 3), cells.reserve(8, 4, 1)
    with pytest.raises(ValueError, match="spatial_partition: expected layers of one kernel size"):
        cells.store()
    with pytest.raises(ValueError, match="nonlocal_basis_ratio: expected a number above 0"):
        nn.KernelWarehouse(nonlocal_basis_ratio=0)
    warehouse = nn.KernelWarehouse()
    with pytest.raises(ValueError, match="store: expected layers"):
        warehouse.store()
    layer = warehouse.reserve(4, 4, 3, **WIDE)
    assert "not stored" in repr(layer) and "not stored" in repr(warehouse)
    with pytest.raises(ValueError, match=r"warehouse: expected stored cells.*store\(\)"):
        layer(scene("random_sparse").tensor(4))
    warehouse.store(**WIDE)
    with pytest.raises(ValueError, match="reserve: expected"):
        warehouse.reserve(4, 4, 3)
    with pytest.raises(ValueError, match="temperature"):
        warehouse.set_temperature(1.5)
    with pytest.raises(ValueError, match="norm: expected two scans"):
        layer(scene("one_voxel").tensor(4))
    assert "cells=27" in repr(warehouse) and "shares=27x27" in repr(layer)
