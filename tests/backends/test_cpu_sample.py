"""The compiled samples and their convolutions against the reference: sets, dtypes, threads."""

import pytest
import torch

from sparseconv.backends import native_available
from sparseconv.backends.reference import deform_conv as convolved
from sparseconv.backends.reference import moved_kernel as turned
from sparseconv.backends.reference import moved_sum as moved
from sparseconv.backends.reference import sample as sampled
from sparseconv.ops.blocks import block_index
from sparseconv.testing.scenes import room, scene

if not native_available():
    pytest.skip("the compiled module is not installed", allow_module_level=True)

from sparseconv.backends.cpu import deform_conv as cpu_convolved
from sparseconv.backends.cpu import moved_kernel as cpu_turned
from sparseconv.backends.cpu import moved_sum as cpu_moved
from sparseconv.backends.cpu import sample as cpu

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# C, K, groups of positions, groups of the weight, D: about the lengths of vectors, and odd
SHAPES = [(4, 2, 1, 2, 6), (16, 9, 2, 1, 10), (17, 9, 1, 17, 34), (6, 1, 3, 3, 6), (33, 1, 1, 1, 4)]
WIDE = [(64, 27, 4, 1, 64), (130, 8, 1, 1, 140)]
CLOSE = {torch.float64: 1e-11, torch.float32: 3e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


def problem(shape, dtype, wide=torch.float32, count=70, spread=1.5, coords=None):
    """Arguments up to the gradient for rows near sites, some far away or nowhere."""
    channels, taps, parts, groups, width = shape
    if coords is None:
        cells = torch.cat([torch.randint(0, 2, (300, 1)), torch.randint(-9, 9, (300, 3))], 1)
        coords = torch.cat([cells, cells[:9]]).int()
    base = coords[torch.randint(0, len(coords), (count,))]
    move = spread * torch.randn(count, taps, parts, 3, dtype=torch.float64)
    p = (base[:, None, None, 1:] + move).to(wide)
    p[0, 0], p[1], p[2, -1] = torch.nan, p[1].round(), 1e12

    def normal(*size):
        return torch.randn(*size, dtype=torch.float64).to(dtype)

    where = coords, block_index(coords), base[:, 0].contiguous(), p
    weight = normal(taps, channels // groups, width), normal(width), normal(count, width)
    x, w = normal(len(coords), channels), normal(count, taps, parts)
    return (x, *where, w), normal(count, channels), weight, groups


def heads_of(given, weighted, base):
    """The same positions as sites, heads and a grid."""
    x, coords, blocks, items, p, w = given
    taps = p.shape[1]
    grid = torch.arange(3 * taps).reshape(taps, 3).to(p) % 5 - 2
    sites = torch.cat([items[:, None], base], 1).int()
    heads = (p - grid[:, None] - base[:, None, None]).to(p.dtype).transpose(1, 2).flatten(1)
    if weighted:
        heads = torch.cat([heads, 2 * w.to(p.dtype).transpose(1, 2).flatten(1)], 1)
    return x, coords, blocks, sites, heads, grid


def calls(given, g, weight, groups, weighted=True):
    """Every function's name, its two forms, and the arguments they are called with."""
    *place, w = given
    place = (*place, w if weighted else None)
    p = given[4]
    base = p[:, 0, 0].detach().nan_to_num(0, 0, 0).clamp(-(2.0**30), 2.0**30).to(torch.int64)
    moved, (weight, bias, to) = heads_of(given, weighted, base), weight
    more = p.shape[2], weighted, groups
    made = [
        ("deform_conv", (*moved, weight, bias if weighted else None, *more)),
        ("deform_conv_grad", (*moved, weight, to, *more)),
    ]
    for means in (False, True):
        made.append(("sample_sum", (*place, means)))
        made += [("sample_sum_grad", (*place, g, means, moves)) for moves in (False, True)]
    for name, args in made:
        forms = (cpu, sampled) if name.startswith("sample") else (cpu_convolved, convolved)
        yield name, *(getattr(form, name) for form in forms), args


def predictions(shape, dtype, kind, count=70, spread=1.0, coords=None):
    """The two functions of predicted samples, and the arguments they are called with."""
    (x, coords, blocks, _, _, _), g, *_ = problem(shape, dtype, count=count, coords=coords)
    _, taps, groups, _, depth = shape
    sites = coords[torch.randint(0, len(coords), (count,))]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    query = torch.randn(count, depth, dtype=torch.float64).to(dtype)
    weight = spread * torch.randn(4 * groups * taps, depth, dtype=torch.float64) / depth**0.5
    bias = spread * torch.randn(4 * groups * taps, dtype=torch.float64)
    # far away, and nowhere
    bias[0], bias[-1 - groups * taps] = 40, 1e12
    grid = torch.randint(-2, 3, (taps, 3)).to(wide)
    given = x, coords, blocks, sites, query, weight.to(wide), bias.to(wide), grid, groups, *kind
    yield cpu_moved.moved_sum, moved.moved_sum, given
    yield cpu_moved.moved_sum_grad, moved.moved_sum_grad, (*given, g)


def turns(shape, dtype, count=70, spread=1.0, coords=None):
    """The two functions of moved taps under moved kernels, and what they are called with."""
    (x, coords, blocks, _, _, _), g, *_ = problem(shape, dtype, count=count, coords=coords)
    channels, taps, groups, *_ = shape
    sites = coords[torch.randint(0, len(coords), (count,))]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    heads = spread * torch.randn(count, 6 * groups * taps, dtype=torch.float64)
    # far away, and nowhere, of either kind
    heads[0], heads[1, ::2], heads[2], heads[3] = 40, torch.nan, 1e12, heads[3].round()
    kernel = torch.randn(24, channels, dtype=torch.float64).to(dtype)
    grid, start = torch.randint(-2, 3, (taps, 3)), torch.rand(taps, 3) * torch.tensor([1, 2, 3])
    given = x, coords, blocks, sites, heads.to(wide), grid.to(wide), kernel, start.to(wide)
    given = *given, [2, 3, 4], groups
    yield cpu_turned.moved_kernel, turned.moved_kernel, given
    yield cpu_turned.moved_kernel_grad, turned.moved_kernel_grad, (*given, g)


KINDS = [(False, False), (True, False), (True, True)]


def assert_near(found, expected, name, least=0.0):
    found, expected = ((t,) if torch.is_tensor(t) else t for t in (found, expected))
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if not b.numel():
            continue
        # gradients of positions may have a finer dtype than what they are made of
        limit = CLOSE[found[0].dtype] * b.double().abs().max().clamp(min=least)
        apart = (a.double() - b.double()).abs().max()
        assert apart <= limit, f"{name} {i}: {apart:.1e}, limit {limit:.1e}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_instruction_set(isa, dtype, shape):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for weighted in (True, False):
        for name, ours, right, args in calls(*problem(shape, dtype, wide), weighted):
            assert_near(ours(*args), right(*args), name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_predicted_taps(isa, dtype, shape):
    for kind in KINDS:
        for ours, right, args in predictions(shape, dtype, kind):
            # one tap and one corner make a mean that nothing moves
            assert_near(ours(*args), right(*args), str(kind), 1.0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_moved_kernels(isa, dtype, shape):
    for ours, right, args in turns(shape, dtype):
        assert_near(ours(*args), right(*args), "moved kernel")


@pytest.mark.parametrize("name", ["int32_limits", "far_away", "negative", "same_xyz", "one_voxel"])
def test_moved_kernels_anywhere(name):
    for ours, right, args in turns(SHAPES[1], torch.float32, 20, 0.7, scene(name).coords):
        assert_near(ours(*args), right(*args), name)


def test_moved_kernels_of_many_rows():
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        calls_of = turns((16, 9, 2, 1, 1), torch.float32, 2600, 0.5, room(1500))
        found.append([(ours(*args), right, args) for ours, right, args in calls_of])
    for (y, right, args), *others in zip(*found, strict=True):
        assert_near(y, right(*args), "many rows")
        for z, _, _ in others:
            pairs = ((y, z),) if torch.is_tensor(y) else zip(y, z, strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", ["far_away", "negative", "same_xyz", "one_voxel"])
def test_predicted_taps_anywhere(name):
    given = (3, 9, 1, 1, 5), torch.float32, (True, False), 20, 0.7, scene(name).coords
    for ours, right, args in predictions(*given):
        assert_near(ours(*args), right(*args), name)


def test_predicted_taps_of_many_rows():
    # several chunks at a time, several times, with a strip of few columns behind one of many
    coords, shape = room(1500), (16, 27, 4, 1, 130)
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        calls_of = predictions(shape, torch.float32, (True, False), 2600, 0.5, coords)
        found.append([(ours(*args), right, args) for ours, right, args in calls_of])
    for (y, right, args), *others in zip(*found, strict=True):
        assert_near(y, right(*args), "many rows")
        for z, _, _ in others:
            pairs = ((y, z),) if torch.is_tensor(y) else zip(y, z, strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("shape", WIDE, ids=str)
def test_wide_channels_and_many_cells(isa, shape):
    for name, ours, right, args in calls(*problem(shape, torch.float32, count=33)):
        assert_near(ours(*args), right(*args), name)


@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["int32_limits", "far_away", "negative", "same_xyz", "one_voxel"])
def test_sites_anywhere(name, wide):
    coords = scene(name).coords
    for taps in (1, 9):
        given = problem((3, taps, 1, 1, 5), torch.float32, wide, 20, 0.7, coords)
        for name, ours, right, args in calls(*given):
            # one corner makes a mean that nothing moves
            mean = name == "sample_sum_grad" and args[-2]
            assert_near(ours(*args), right(*args), name, 1.0 if mean else 0.0)


def test_positions_all_over_the_scene():
    # every chunk of rows touches every site, so that their sums do not fit at once
    for shape in ((4, 9, 2, 1, 6), (4, 1, 1, 1, 6)):
        given = problem(shape, torch.float32, count=2100, spread=9)
        for name, ours, right, args in calls(*given):
            assert_near(ours(*args), right(*args), name)


@pytest.mark.parametrize("shape", [(16, 27, 2, 1, 16), (20, 1, 1, 1, 16)], ids=str)
def test_threads_change_no_bit(shape):
    given = problem(shape, torch.float32, count=3000, coords=room(3000))
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        made = [ours(*args) for _, ours, _, args in calls(*given)]
        found.append([t for out in made for t in ((out,) if torch.is_tensor(out) else out)])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("taps", [1, 9])
def test_rows_in_another_order_give_the_same_rows(taps):
    shape = 8, taps, 1, 1, 8
    (x, coords, blocks, items, p, w), *_ = problem(shape, torch.float32, coords=room(900))
    order = torch.randperm(len(items))
    y = cpu.sample_sum(x, coords, blocks, items, p, w, False)
    z = cpu.sample_sum(x, coords, blocks, items[order], p[order], w[order], False)
    assert torch.equal(z, y[order])


def test_an_index_of_other_sites_is_refused():
    (x, coords, blocks, items, p, w), *_ = problem((4, 2, 1, 1, 4), torch.float32)
    for wrong in (blocks[:-1], blocks[:4], blocks.new_zeros(len(blocks)), block_index(coords[1:])):
        with pytest.raises(ValueError, match="blocks: expected what block_index returned"):
            cpu.sample_sum(x, coords, wrong, items, p, w, False)
    with pytest.raises(TypeError, match="blocks"):
        cpu.sample_sum(x, coords, blocks.long(), items, p, w, False)
