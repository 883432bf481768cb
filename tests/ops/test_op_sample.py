"""Samples between sites equal torch's own sampling of the zero-filled grid, gradients too."""

import pytest
import torch

from sparseconv.ops.blocks import block_index
from sparseconv.ops.deform_conv import deform_conv
from sparseconv.ops.moved_sum import moved_sum
from sparseconv.ops.sample import sample_sum
from sparseconv.testing.between import contract, grid_of, read_between
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance

EXACT = {"rtol": 1e-10, "atol": 1e-10}
SHAPE = (4, 3, 5)


def read_by_group(features, coords, items, positions):
    """What `sample_sum` reads, [M, K, C]."""
    return read_between(grid_of(features, coords, 3, SHAPE), items.tolist(), positions)


def problem(taps=4, groups=2, count=9, channels=4):
    """Sites at a third of the cells of three items, and positions within and beyond the grid."""
    cells = torch.cartesian_prod(*(torch.arange(n) for n in (3, *SHAPE))).int()
    coords = cells[torch.randperm(len(cells))[:60]]
    items = torch.randint(0, 3, (count,)).int()
    low, high = torch.tensor([-2.0]), torch.tensor(SHAPE) + 1.0
    positions = low + (high - low) * torch.rand(count, taps, groups, 3, dtype=torch.float64)
    features = torch.randn(len(coords), channels, dtype=torch.float64)
    weights = torch.randn(count, taps, groups, dtype=torch.float64)
    return features, coords, block_index(coords), items, positions, weights


def convolved(x, coords, blocks, items, p, mask, weight, bias, groups):
    """`deform_conv` of positions: offsets from a grid about sites, group by group."""
    m, taps, parts, _ = p.shape
    grid = torch.arange(3 * taps).reshape(taps, 3).to(p) - 5
    base = torch.tensor([[3, -2, 1]])
    sites = torch.cat([items[:, None], base.expand(m, 3)], 1).int()
    heads = (p - grid[:, None] - base.to(p)).transpose(1, 2).flatten(1)
    if mask is not None:
        heads = torch.cat([heads, mask.transpose(1, 2).flatten(1).to(heads.dtype)], 1)
    return deform_conv(x, coords, blocks, sites, heads, grid, weight, bias, parts, groups=groups)


def compare(found, expected, leaves, names):
    torch.testing.assert_close(found, expected, **EXACT)
    probe = torch.randn_like(found)
    ours = torch.autograd.grad(found, leaves, probe)
    wanted = torch.autograd.grad(expected, leaves, probe)
    for a, b, name in zip(ours, wanted, names, strict=True):
        assert b.any(), name
        torch.testing.assert_close(a, b, **EXACT, msg=name)


@pytest.mark.parametrize(("groups", "taps"), [(1, 4), (2, 4), (4, 4), (1, 1)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("means", [False, True])
def test_weighted_samples(backend, groups, taps, weighted, means):
    x, coords, blocks, items, p, w = problem(taps, groups, count=30)
    leaves = [t.requires_grad_() for t in ((x, p, w) if weighted else (x, p))]
    found = sample_sum(x, coords, blocks, items, p, w if weighted else None, normalize=means)
    read = read_by_group(x, coords, items, p)
    if means:
        there = read_by_group(torch.ones_like(x), coords, items, p)
        assert (there == 0).any() and ((there > 0) & (there < 1)).any()
        read = torch.where(there > 0, read / torch.where(there > 0, there, 1), 0)
    if weighted:
        read = read * w.repeat_interleave(x.shape[1] // groups, 2)
    names = ("features", "positions", "weights")
    compare(found, read.sum(1), leaves, names[: len(leaves)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_means_of_the_smallest_shares(backend, dtype):
    # the one corner that is there has a share whose inverse is infinite
    coords = torch.tensor([[0, 1, 1, 0]]).int()
    small = {torch.float32: 1e-20, torch.float64: 1e-155}[dtype]
    p = torch.tensor([[[[small, small, 0.0]]]], dtype=dtype, requires_grad=True)
    x = torch.tensor([[3.0, -5.0]], dtype=dtype, requires_grad=True)
    place = coords, block_index(coords), torch.zeros(1).int(), p
    y = sample_sum(x, *place, None, normalize=True)
    torch.testing.assert_close(y, x)
    to_x, to_p = torch.autograd.grad(y.sum(), (x, p))
    torch.testing.assert_close(to_x, torch.ones_like(x))
    assert not to_p.any()


@pytest.mark.parametrize("means", [False, True])
def test_gradient_of_features_alone(backend, means):
    x, coords, blocks, items, p, w = problem(taps=1, groups=1, count=30)
    found = []
    for moved in (False, True):
        leaf = x.clone().requires_grad_()
        place = coords, blocks, items, p.clone().requires_grad_(moved)
        y = sample_sum(leaf, *place, w, normalize=means)
        found.append(torch.autograd.grad(y.square().sum(), leaf)[0])
    assert found[0].any() and torch.equal(*found)


@pytest.mark.parametrize(("parts", "groups"), [(1, 1), (2, 1), (1, 2), (2, 4), (4, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_convolved_samples(backend, parts, groups, masked):
    x, coords, blocks, items, p, mask = problem(groups=parts)
    weight = torch.randn(4, 4 // groups, 8, dtype=torch.float64)
    bias = torch.randn(8, dtype=torch.float64)
    leaves = [x, p, weight, bias, mask] if masked else [x, p, weight, bias]
    for leaf in leaves:
        leaf.requires_grad_()
    given = (mask if masked else None, weight, bias)
    found = convolved(x, coords, blocks, items, p, *given, groups)
    read = read_by_group(x, coords, items, p)
    if masked:
        read = read * mask.repeat_interleave(x.shape[1] // parts, 2)
    expected = contract(read, weight.permute(2, 1, 0).reshape(8, -1, 4, 1, 1), bias, groups)
    names = ("features", "positions", "weight", "bias", "mask")
    compare(found, expected, leaves, names[: len(leaves)])


def prediction(groups, taps=4, depth=3, count=9):
    """Sites of rows, what they predict from, and the map: offsets of about a voxel."""
    sites = torch.cat([torch.randint(0, 3, (count, 1)), torch.randint(-1, 5, (count, 3))], 1).int()
    query, weight = torch.randn(count, depth), torch.randn(4 * groups * taps, depth)
    bias, grid = torch.randn(4 * groups * taps), torch.randint(-2, 3, (taps, 3))
    return sites, *(t.double() for t in (query, weight, bias, grid))


def predicted(x, coords, sites, query, weight, bias, grid, groups, softmax, renormalize):
    """Sums from the formula, each row's numbers predicted by a matrix product."""
    taps = len(grid)
    made = query @ weight.t() + bias
    offsets = made[:, : 3 * groups * taps].reshape(-1, groups, taps, 3).transpose(1, 2)
    mask = made[:, 3 * groups * taps :].reshape(-1, groups, taps).transpose(1, 2)
    if softmax:
        mask = mask.exp() / mask.exp().sum(1, keepdim=True)
    p = sites[:, None, None, 1:] + grid[:, None] + offsets
    weights = mask.repeat_interleave(x.shape[1] // groups, 2)
    total = (read_by_group(x, coords, sites[:, 0], p) * weights).sum(1)
    if not renormalize:
        return total
    there = read_by_group(torch.ones_like(x), coords, sites[:, 0], p)
    mass = (there * weights).sum(1)
    return torch.where(mass > 0, total / torch.where(mass > 0, mass, 1), 0)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", [(False, False), (True, False), (True, True)])
def test_predicted_samples(backend, groups, kind):
    x, coords, blocks, *_ = problem()
    sites, *maps = prediction(groups)
    # one row sees nothing at all
    sites[0, 1] = 99
    leaves = [t.requires_grad_() for t in (x, *maps)]
    found = moved_sum(x, coords, blocks, sites, *maps, groups, *kind)
    right = predicted(x, coords, sites, *maps, groups, *kind)
    assert not right[0].any() and right[1:].any(1).sum() > 4
    compare(found, right, leaves, ("features", "query", "weight", "bias", "grid"))


def test_shares_of_the_sites_there_are_make_a_mean(backend):
    x, coords, blocks, *_ = problem()
    sites, *maps = prediction(2)
    given = coords, blocks, sites, *maps, 2, True, True
    ones = moved_sum(torch.ones_like(x), *given)
    assert ((ones - 1).abs().lt(1e-12) | ones.eq(0)).all() and (ones > 0).any()
    # a constant has no slope, wherever taps lie
    query = maps[0].requires_grad_()
    moved_sum(torch.ones_like(x), *given).sum().backward()
    assert query.grad.abs().max() < 1e-12


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e9])
def test_a_prediction_of_nowhere_reads_nothing(backend, value):
    coords = scene("int32_limits").coords
    x = torch.ones(len(coords), 2, requires_grad=True)
    bias = torch.zeros(8)
    bias[1], bias[6:] = value, 1
    given = coords, block_index(coords), coords, torch.zeros(len(coords), 1), torch.zeros(8, 1)
    y = moved_sum(x, *given, bias, torch.zeros(2, 3), 1)
    assert torch.equal(y, torch.ones_like(y))
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_masks_are_sigmoids_of_their_heads(backend):
    x, coords, blocks, items, p, logits = problem(groups=2)
    logits = 30 * logits
    weight = torch.randn(4, 4, 3, dtype=torch.float64)
    sites = torch.cat([items[:, None], torch.zeros(len(items), 3)], 1).int()
    heads = torch.cat([p.transpose(1, 2).flatten(1), logits.transpose(1, 2).flatten(1)], 1)
    given = weight, None, 2
    grid = torch.zeros(4, 3, dtype=torch.float64)
    leaves = [x.requires_grad_(), heads.requires_grad_()]
    found = deform_conv(x, coords, blocks, sites, heads, grid, *given, squash=True)
    apart = heads[:, 24:].reshape(-1, 2, 4).transpose(1, 2)
    moved = heads[:, :24].reshape(-1, 2, 4, 3).transpose(1, 2)
    read = read_by_group(x, coords, items, moved) * apart.sigmoid().repeat_interleave(2, 2)
    expected = contract(read, weight.permute(2, 1, 0).reshape(3, 4, 4, 1, 1), None, 1)
    compare(found, expected, leaves, ("features", "heads"))
    near = [t.detach().float() for t in (x, heads, grid, weight)]
    low = deform_conv(near[0], coords, blocks, sites, *near[1:], None, 2, True)
    torch.testing.assert_close(low.double(), found.detach(), **tolerance(torch.float32, "traced"))


def test_offsets_reach_the_ends_of_int32(backend):
    coords = scene("int32_limits").coords
    x = torch.randn(len(coords), 2, dtype=torch.float64)
    weight, grid = torch.eye(2, dtype=torch.float64)[None], torch.zeros(1, 3, dtype=torch.float64)
    where = x, coords, block_index(coords)
    y = deform_conv(*where, coords, torch.zeros_like(x[:, :1]).expand(-1, 3), grid, weight, None)
    assert torch.equal(y, x)
    # from one site to another one, through the middle or beyond the ends, where nothing is
    for i in range(len(coords)):
        same = coords[:, 0] == coords[i, 0]
        away = (coords[i : i + 1, 1:].double() - coords[:, 1:].double()).contiguous()
        y = deform_conv(*where, coords, away, grid, weight, None)
        inside = same[:, None] & ((away >= -(2.0**31)) & (away < 2.0**31)).all(1, keepdim=True)
        assert torch.equal(y, torch.where(inside, x[i], 0.0))
    y = deform_conv(
        *where, coords, torch.full((len(coords), 3), 2.0**31 - 1).double(), *(grid, weight, None)
    )
    assert y.isfinite().all()


def test_the_derivative_at_an_integer_is_that_of_the_cell_above(backend):
    coords = torch.tensor([[0, x, 0, 0] for x in (0, 1, 2)], dtype=torch.int32)
    x = torch.tensor([[1.0], [10.0], [100.0]])
    p = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 1, 1, 3).requires_grad_()
    y = sample_sum(x, coords, block_index(coords), torch.zeros(1).int(), p, None)
    y.sum().backward()
    assert y.item() == 10 and p.grad.flatten().tolist() == [90, -10, -10]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e9, -1e30, 2.0**31])
def test_a_position_that_is_nowhere_reads_nothing(backend, value):
    coords = scene("int32_limits").coords
    x = torch.ones(len(coords), 2, requires_grad=True)
    p = torch.zeros(1, 2, 1, 3)
    p[0, 1, 0, 1] = value
    p.requires_grad_()
    y = sample_sum(x, coords, block_index(coords), torch.zeros(1).int(), p, None)
    assert y.tolist() == [[1, 1]]
    y.sum().backward()
    assert x.grad.sum() == 2 and not p.grad[0, 1].any()


def test_positions_reach_the_ends_of_int32(backend):
    coords = scene("int32_limits").coords
    x = torch.randn(len(coords), 2, dtype=torch.float64)
    p = coords[:, None, None, 1:].double()
    y = sample_sum(x, coords, block_index(coords), coords[:, 0].contiguous(), p, None)
    assert torch.equal(y, x)
    y = sample_sum(x, coords, block_index(coords), coords[:, 0].contiguous(), p - 0.25, None)
    assert y.isfinite().all() and not torch.equal(y, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_small_floats_are_for_storage_alone(backend, dtype):
    x, coords, blocks, items, p, mask = problem()
    weight = torch.randn(4, 2, 6, dtype=torch.float64)
    rounded = [t.to(dtype).requires_grad_() for t in (x, mask, weight)]
    wide = [t.detach().double().requires_grad_() for t in rounded]
    near = p.float().requires_grad_()
    far = near.detach().double().requires_grad_()

    def run(x, mask, weight, p):
        y = convolved(x, coords, blocks, items, p, mask, weight, None, 2)
        z = sample_sum(x, coords, blocks, items, p, mask)
        return (
            y,
            z,
            torch.autograd.grad((y.double().sum() + z.double().sum()), (x, mask, weight, p)),
        )

    y, z, grads = run(*rounded, near)
    right_y, right_z, right = run(*wide, far)
    assert y.dtype == z.dtype == dtype and grads[3].dtype == torch.float32
    close = tolerance(dtype, "forward", 64)
    for found, expected in ((y, right_y), (z, right_z), *zip(grads, right, strict=True)):
        torch.testing.assert_close(found.double(), expected, **close)


def test_autocast_keeps_the_positions(backend):
    x, coords, blocks, items, p, mask = problem()
    x, p, mask = x.float().requires_grad_(), p.float().requires_grad_(), mask.float()
    weight = torch.randn(4, 2, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = convolved(x, coords, blocks, items, p, mask, weight, None, 2)
        z = sample_sum(x, coords, blocks, items, p, mask)
    assert y.dtype == z.dtype == torch.bfloat16
    (y.float().sum() + z.float().sum()).backward()
    assert {t.grad.dtype for t in (x, p, weight)} == {torch.float32}
    low = x.detach().bfloat16(), mask.bfloat16()
    assert torch.equal(z, sample_sum(low[0], coords, blocks, items, p.detach(), low[1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_predictions_are_wide(backend, dtype):
    x, coords, blocks, *_ = problem()
    sites, *maps = prediction(2)
    rounded = [t.to(dtype).requires_grad_() for t in (x, maps[0])]
    near = [t.float().requires_grad_() for t in maps[1:]]
    y = moved_sum(rounded[0], coords, blocks, sites, rounded[1], *near, 2, True, True)
    far = [t.detach().double().requires_grad_() for t in (*rounded, *near)]
    right = moved_sum(far[0], coords, blocks, sites, *far[1:], 2, True, True)
    assert y.dtype == dtype
    found = torch.autograd.grad(y.double().sum(), [*rounded, *near])
    assert [g.dtype for g in found] == [dtype] * 2 + [torch.float32] * 3
    wanted = torch.autograd.grad(right.sum(), far)
    close = tolerance(dtype, "forward", 64)
    for a, b in ((y, right), *zip(found, wanted, strict=True)):
        torch.testing.assert_close(a.double(), b, **close)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = moved_sum(x.float(), coords, blocks, sites, maps[0].float(), *near, 2)
    assert low.dtype == torch.bfloat16


def test_threads_give_the_same_bits(backend):
    x, coords, blocks, items, p, mask = problem(count=200)
    x, p, mask, found = x.float(), p.float(), mask.float(), []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        given = [t.clone().requires_grad_() for t in (x, p, mask, torch.ones(4, 2, 6))]
        y = convolved(given[0], coords, blocks, items, *given[1:], None, 2)
        z = sample_sum(given[0], coords, blocks, items, *given[1:3])
        found.append((y, z, *torch.autograd.grad(y.sum() + z.square().sum(), given)))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
