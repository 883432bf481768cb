"""Bit for bit the same with one, two and three threads, again and again."""

import pytest
import torch

pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

from sparseconv.backends.cpu.aggregate import aggregate, pair_dot
from sparseconv.backends.cpu.conv import conv, conv_grad_weight
from sparseconv.backends.cpu.coords import output_coords, site_index, unique_coords
from sparseconv.backends.cpu.dim_conv import dim_conv, dim_conv_grad, dim_conv_grad_weight
from sparseconv.backends.cpu.pool import pool_max, pool_max_grad
from sparseconv.backends.cpu.relation import relation_mean, relation_mean_grad
from sparseconv.backends.cpu.rulebook import rulebook
from sparseconv.backends.cpu.taps import tap_dot, tap_sum
from sparseconv.testing.tolerances import tolerance

THREE = [v for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) for v in (x, y, z)]


def same_for_all_threads(call, repeats=1):
    torch.set_num_threads(1)
    expected = call()
    for count in (2, 3):
        torch.set_num_threads(count)
        for _ in range(repeats):
            for one, other in zip(expected, call(), strict=True):
                assert torch.equal(one, other), f"{count} threads"


@pytest.fixture(params=["ascending", "shuffled"])
def book(request):
    sites = unique_coords(torch.randint(0, 22, (6000, 4), dtype=torch.int32) % 22)[0]
    sites[:, 0] //= 11
    sites = unique_coords(sites)[0]
    if request.param == "shuffled":
        sites = sites[torch.randperm(len(sites))]
    return len(sites), rulebook(sites, site_index(sites), sites, THREE, [1, 1, 1], True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("channels", "width", "groups"),
    [(5, 17, 1), (64, 64, 1), (16, 200, 1), (32, 32, 4), (40, 40, 40), (21, 21, 21)],
)
def test_convolution(book, dtype, channels, width, groups):
    n, (i, o, s) = book
    x, g = torch.randn(n, channels).to(dtype), torch.randn(n, width).to(dtype)
    w, b = torch.randn(27, channels // groups, width).to(dtype), torch.randn(width).to(dtype)
    swapped = torch.randn(27, width // groups, channels).to(dtype)
    same_for_all_threads(
        lambda: (
            conv(x, w, b, i, o, s, n, groups),
            conv(g, swapped, None, o, i, s, n, groups),
            conv_grad_weight(x, g, i, o, s, groups),
            conv(x, w.float(), b, i, o, s, n, groups) if dtype == torch.bfloat16 else b,
            conv_grad_weight(x, g, i, o, s, groups, False, False, True),
        )
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("channels", "width", "groups"), [(33, 130, 1), (64, 256, 1), (24, 96, 4), (16, 20, 1)]
)
@pytest.mark.parametrize("rows", [1, 90, 1024, 1025])
def test_convolution_of_few_rows(rows, dtype, channels, width, groups):
    """Weights are packed where they are used, of other columns for other numbers of threads."""
    sites = unique_coords(torch.randint(0, 13, (3000, 4), dtype=torch.int32))[0][:rows]
    i, o, s = rulebook(sites, site_index(sites), sites, THREE, [1, 1, 1], True)
    x, g = torch.randn(rows, channels).to(dtype), torch.randn(rows, width).to(dtype)
    w, b = torch.randn(27, channels // groups, width).to(dtype), torch.randn(width).to(dtype)
    swapped = torch.randn(27, channels, width // groups).to(dtype).transpose(1, 2)
    same_for_all_threads(
        lambda: (
            conv(x, w, b, i, o, s, rows, groups),
            conv(x, w.float(), b, i, o, s, rows, groups) if dtype == torch.bfloat16 else b,
            conv(g, swapped, None, o, i, s, rows, groups),
        )
    )


@pytest.mark.parametrize("taps", [1, 3, 27])
def test_gradient_of_weights_where_one_tap_has_most_pairs(taps):
    n, channels, width = 3000, 48, 33
    sizes = [2] * (taps // 2) + [n] + [0] * (taps // 2)
    o = torch.cat([torch.arange(size, dtype=torch.int32) for size in sizes])
    s = torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()])
    x, g = torch.randn(n, channels), torch.randn(n, width)
    expected = torch.stack([x[:size].t() @ g[:size] for size in sizes])
    same_for_all_threads(lambda: (conv_grad_weight(x, g, o, o, s, 1),))
    found = conv_grad_weight(x, g, o, o, s, 1)
    torch.testing.assert_close(found, expected, **tolerance(torch.float32, "grad_weight", n))


def test_sums_and_maxima(book):
    n, (i, o, _) = book
    for m in (n, 3):
        x, g, w = torch.randn(n, 40), torch.randn(m, 40), torch.randn(len(i))
        to = o % m
        same_for_all_threads(
            lambda x=x, g=g, w=w, to=to, m=m: (
                aggregate(x, i, to, w, m),
                pair_dot(x, g, i, to),
                aggregate(x, i, to, None, m),
                *pool_max(x, i, to, m),
                pool_max_grad(g, pool_max(x, i, to, m)[1], n),
            )
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("channels", "groups"), [(64, 4), (21, 21), (40, 1)])
def test_sums_over_taps(book, dtype, channels, groups):
    n, (i, o, s) = book
    x, g = torch.randn(n, channels).to(dtype), torch.randn(n, channels).to(dtype)
    w = torch.randn(n, 27, groups).to(dtype)
    same_for_all_threads(
        lambda: (
            tap_sum(x, w, i, o, s, n, False),
            tap_sum(g, w, i, o, s, n, True),
            tap_dot(x, g, i, o, s, groups),
        )
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("channels", "groups"), [(64, 8), (21, 21)])
def test_relations(book, dtype, channels, groups):
    n, (i, o, s) = book
    x, g = torch.randn(n, channels).to(dtype), torch.randn(n, channels).to(dtype)
    related = torch.randn(n, groups), torch.randn(n, groups), torch.randn(27, groups)
    total = relation_mean(x, *related, i, o, s, 0)[1]
    same_for_all_threads(
        lambda: (
            *relation_mean(x, *related, i, o, s, 0),
            *relation_mean_grad(g, x, *related, total, i, o, s, 0),
        )
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels", [64, 21])
def test_kernels_of_planes(book, dtype, channels):
    n, (i, o, s) = book
    sites = torch.randint(5, (n, 4), dtype=torch.int32)
    x, g = torch.randn(n, channels).to(dtype), torch.randn(n, 4 * channels).to(dtype)
    w = torch.randn(27 * channels + 3 * 5 * 3 * 9).to(dtype)
    kind = [3, 3, 3], [5, 5, 5], [-1, 0, 1], [0, 1, 2, 3], False
    few = torch.randn(1, 4, channels).to(dtype)
    same_for_all_threads(
        lambda: (
            dim_conv(x, w, None, None, sites, i, o, s, *kind),
            dim_conv_grad(x, g, w, None, sites, i, o, s, *kind)[0],
            dim_conv_grad_weight(x, g, None, sites, i, o, s, *kind),
            *dim_conv_grad(x, x.flip(0), w, few[0], sites, i, o, s, *kind),
            dim_conv_grad_weight(x, x.flip(0), few[0], sites, i, o, s, *kind),
            conv(g, few, None, i, o, torch.tensor([0, len(i)]), n, channels),
            conv_grad_weight(g, x, i, o, torch.tensor([0, len(i)]), channels),
        )
    )


def test_sites():
    sites = torch.randint(-40, 40, (50_000, 4), dtype=torch.int32)
    sites[:, 0] = 0
    distinct = unique_coords(sites)[0]
    mixed = distinct[torch.randperm(len(distinct))]
    same_for_all_threads(
        lambda: (
            *unique_coords(sites),
            output_coords(sites, THREE, [2, 2, 2], [], [], False),
            *rulebook(distinct, site_index(distinct), distinct, THREE, [1, 1, 1], True),
            *rulebook(mixed, site_index(mixed), distinct, THREE, [1, 1, 1], False),
        )
    )


def test_two_threads_do_not_race():
    # a scatter that shares its place between threads gives wrong rows here, now and then
    n, pairs, taps = 60_000, 120_000, 3
    i, o = torch.randint(n, (2, pairs), dtype=torch.int32)
    s = torch.tensor([0, pairs // 2, pairs // 2, pairs])
    x, g, w = torch.randn(n, 8), torch.randn(n, 8), torch.randn(taps, 8, 8)
    weights = torch.randn(pairs)
    same_for_all_threads(
        lambda: (
            conv(x, w, None, i, o, s, n, 1),
            conv_grad_weight(x, g, i, o, s, 1),
            aggregate(x, i, o, weights, n),
            *pool_max(x, i, o, n),
        ),
        repeats=10,
    )
