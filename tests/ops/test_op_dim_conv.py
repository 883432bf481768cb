"""Dimension-wise convolution of arbitrary pairs against plain loops, and what it refuses."""

from itertools import pairwise

import pytest
import torch

from sparseconv.ops.dim_conv import dim_conv
from sparseconv.testing.sample import pairs_of
from sparseconv.testing.tolerances import tolerance

SIZE, PLANES = (3, 1, 3), (2, 4, 3)
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def kernels(channels, axes, shifts):
    """Kernels of every branch, each with the axes of its window."""
    for axis in axes:
        if axis == 0:
            yield torch.randn(channels, *SIZE)
        else:
            rest = [k for d, k in enumerate(SIZE, 1) if d != axis]
            yield torch.randn(PLANES[axis - 1], len(shifts), *rest)


def by_loops(x, banks, sites, book, axes, shifts):
    """The formula, pair by pair, channel by channel."""
    in_rows, out_rows, segments = (v.tolist() for v in book)
    (_, channels), rows = x.shape, [[[] for _ in axes] for _ in range(len(sites))]
    for t, (start, stop) in enumerate(pairwise(segments)):
        place = t // (SIZE[1] * SIZE[2]), t // SIZE[2] % SIZE[1], t % SIZE[2]
        for i, o in zip(in_rows[start:stop], out_rows[start:stop], strict=True):
            for r, (axis, bank) in enumerate(zip(axes, banks, strict=True)):
                if axis == 0:
                    rows[o][r].append(bank[(slice(None), *place)] * x[i])
                elif place[axis - 1] == SIZE[axis - 1] // 2:
                    rest = [p for d, p in enumerate(place, 1) if d != axis]
                    for j, shift in enumerate(shifts):
                        scale = bank[(sites[o, axis], j, *rest)]
                        read = [c + shift for c in range(channels)]
                        terms = [x[i, c] if 0 <= c < channels else x.new_zeros(()) for c in read]
                        rows[o][r].append(scale * torch.stack(terms))
    zero = x.new_zeros(channels)
    made = [torch.stack([sum(terms, zero) for terms in row], 1) for row in rows]
    return torch.stack(made).flatten(1)


def problem(channels, axes, shifts, *, seed=0, random=True):
    rng = torch.Generator().manual_seed(seed)
    if random:
        n, m, counts = 7, 12, [5, 0, 3, 9, 12, 4, 0, 6, 8]
        ends = torch.tensor([0, *counts]).cumsum(0)
        in_rows = torch.randint(n, (sum(counts),), generator=rng).int()
        book = in_rows, torch.randint(m, (sum(counts),), generator=rng).int(), ends
    else:
        *book, n, m = pairs_of("random_sparse", SIZE, 1, (1, 0, 1), onto_itself=True)
    sites = torch.stack([torch.randint(p, (m,), generator=rng) for p in (1, *PLANES)], 1)
    x = torch.randn(n, channels, generator=rng)
    return x, list(kernels(channels, axes, shifts)), sites.int(), tuple(book)


def flat(banks):
    return torch.cat([bank.flatten() for bank in banks])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("channels", "axes", "shifts"),
    [
        (32, (0, 1, 2, 3), (-1, 0, 1)),
        (5, (3, 0), (2, -4, 0, 1, 9)),
        (16, (2,), (0,)),
        (3, (1, 3, 2), (-3, 1)),
        (4, (0,), ()),
    ],
)
def test_sums_over_taps_and_channels(backend, dtype, channels, axes, shifts):
    for random in (True, False):
        if not random and channels > 16:
            continue
        x, banks, sites, book = problem(channels, axes, shifts, random=random)
        x, banks = x.to(dtype), [bank.to(dtype) for bank in banks]
        given = [t.double().requires_grad_() for t in (x, *banks)]
        expected = by_loops(given[0], given[1:], sites, book, axes, shifts)
        leaves = [t.clone().requires_grad_() for t in (x, *banks)]
        kind = list(SIZE), list(PLANES), list(shifts), list(axes)
        y = dim_conv(leaves[0], flat(leaves[1:]), sites, *book, *kind, symmetric=not random)
        assert y.dtype == dtype
        close = tolerance(dtype, "forward", 27)
        torch.testing.assert_close(y.double(), expected, **close)
        same_gradients(y, leaves, expected, given, close)
        join, bias = torch.randn(len(axes), channels).to(dtype), torch.randn(channels).to(dtype)
        leaves += [join.requires_grad_(), bias.requires_grad_()]
        given += [t.detach().double().requires_grad_() for t in (join, bias)]
        weights = flat(leaves[1:-2])
        y = dim_conv(leaves[0], weights, sites, *book, *kind, join=join, bias=bias)
        assert y.dtype == dtype
        by_branch = expected.unflatten(1, (channels, -1)) * given[-2].t()
        expected = by_branch.sum(2) + given[-1]
        torch.testing.assert_close(y.double(), expected, **close)
        same_gradients(y, leaves, expected, given, close)


def same_gradients(y, leaves, expected, given, close):
    g = torch.randn(y.shape).to(y.dtype)
    found = torch.autograd.grad(y, leaves, g, retain_graph=True)
    wanted = torch.autograd.grad(expected, given, g.double(), retain_graph=True)
    for a, b in zip(found, wanted, strict=True):
        scale = max(float(b.abs().max()), 1.0)
        torch.testing.assert_close(a.double() / scale, b / scale, **close)


def test_joined_branches_have_second_derivatives(backend):
    x, banks, sites, book = problem(3, (0, 3), (1, 0))
    rng, kind = torch.Generator().manual_seed(1), (list(SIZE), list(PLANES), [1, 0], [0, 3])
    x, w, join, bias = (
        t.double().requires_grad_()
        for t in (x, flat(banks), torch.randn(2, 3, generator=rng), torch.randn(3, generator=rng))
    )

    def run(x, w, join, bias):
        return dim_conv(x, w, sites, *book, *kind, join=join, bias=bias)

    assert torch.autograd.gradcheck(run, (x, w, join, bias), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, w, join, bias), fast_mode=True)


def test_under_autocast_both_are_cast():
    x, banks, sites, book = problem(4, (0, 3), (0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        y = dim_conv(x, flat(banks), sites, *book, list(SIZE), list(PLANES), [0, 1], [0, 3])
    assert y.dtype == torch.bfloat16


REFUSALS = {
    "features": ({"features": torch.ones(7, 4).int()}, TypeError, "features: expected float"),
    "dtype": ({"weights": torch.ones(3).double()}, TypeError, "weights: expected float32"),
    "weights": ({"weights": torch.ones(5)}, ValueError, r"weights: expected shape \[54\]"),
    "coords": ({"coords": torch.ones(12, 3).int()}, ValueError, r"coords: expected shape \[N, 4\]"),
    "even": ({"size": [3, 2, 3]}, ValueError, "size: expected three odd numbers"),
    "taps": ({"size": [3, 3, 3]}, ValueError, "size: expected 9 taps, those of the rulebook"),
    "planes": ({"planes": [1, 0, 2]}, ValueError, "planes: expected three numbers >= 1"),
    "axes": ({"axes": [0, 4]}, ValueError, "axes: expected some of 0, 1, 2, 3"),
    "join": ({"join": torch.ones(2, 3)}, ValueError, r"join: expected shape \[2, 4\]"),
    "bias": ({"bias": torch.ones(4)}, ValueError, r"bias: expected shape \[4\], with join"),
    "twice": ({"axes": [1, 1]}, ValueError, "axes: expected some of 0, 1, 2, 3, each once"),
}


def given(**changed):
    x, banks, sites, book = problem(4, (0, 3), (0, 1))
    args = {"features": x, "weights": flat(banks), "coords": sites}
    args |= dict(zip(("in_rows", "out_rows", "segments"), book, strict=True))
    args |= {"size": list(SIZE), "planes": list(PLANES), "shifts": [0, 1], "axes": [0, 3]}
    return args | changed


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case):
    changed, kind, words = REFUSALS[case]
    with pytest.raises(kind, match=words):
        dim_conv(**given(**changed))


@pytest.mark.parametrize("site", [(0, 0, 0, 3), (0, 0, 0, -1)])
def test_sites_beyond_the_lattice_are_named(backend, site):
    args = given()
    args["coords"][4] = torch.tensor(site)
    # x and y have no kernels here, so that any number does
    args["coords"][2, 1:3] = torch.tensor([-7, 90])
    words = rf"made for, \(2, 4, 3\), found sites beyond it, such as \(0, 0, {site[3]}\) in row 4"
    with pytest.raises(ValueError, match=words):
        dim_conv(**args)
    args["coords"][4] = 0
    dim_conv(**args)


@pytest.mark.parametrize("wrong", ["in_rows", "out_rows"])
def test_rows_of_other_sites_are_refused(backend, wrong):
    args = given()
    args[wrong] = args[wrong] + 9
    with pytest.raises((IndexError, ValueError), match=wrong):
        dim_conv(**args)
