"""bfloat16 products of every instruction set: exact where nothing can be rounded."""

import pytest
import torch

pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

from sparseconv.backends.cpu.conv import conv, conv_grad_weight

# about the sides of register blocks, tiles and gathered chunks; odd numbers need a zero beside
CHANNELS = [1, 2, 15, 16, 17, 31, 33, 64, 97, 130, 513]
WIDTHS = [1, 15, 16, 17, 33, 48, 65, 130]


def whole_numbers(*shape):
    """Small enough that float32 holds every sum of their products, in any order."""
    return torch.randint(-4, 5, shape).to(torch.bfloat16)


def scattered(n, m, taps, counts):
    i = torch.randint(n, (sum(counts),), dtype=torch.int32)
    o = torch.randint(m, (sum(counts),), dtype=torch.int32)
    return i, o, torch.tensor([0, *counts]).cumsum(0)


def expected_conv(x, w, i, o, segments, m):
    y = torch.zeros(m, w.shape[2], dtype=torch.float64)
    for t in range(len(w)):
        part = slice(int(segments[t]), int(segments[t + 1]))
        y.index_add_(0, o[part].long(), x.double()[i[part].long()] @ w[t].double())
    return y.to(torch.bfloat16)


def expected_grad_weight(x, g, i, o, segments):
    parts = zip(segments[:-1].tolist(), segments[1:].tolist(), strict=True)
    sums = [x.double()[i[a:b].long()].T @ g.double()[o[a:b].long()] for a, b in parts]
    return torch.stack(sums).to(torch.bfloat16)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("channels", CHANNELS)
def test_sums_of_whole_numbers_are_exact(isa, channels, width):
    # every length of a last block; rows that occur twice
    counts = [0, 1, 2, 7, 16, 17, 33, 50, 97, 193]
    i, o, segments = scattered(60, 40, len(counts), counts)
    x, g = whole_numbers(60, channels), whole_numbers(40, width)
    w = whole_numbers(len(counts), channels, width)
    y = conv(x, w, None, i, o, segments, 40, 1)
    assert torch.equal(y, expected_conv(x, w, i, o, segments, 40))
    # as the input gradient reads it, and with no step of 1
    for view in (w.mT.contiguous().mT, w.repeat_interleave(2, 2)[:, :, ::2]):
        assert torch.equal(conv(x, view, None, i, o, segments, 40, 1), y)
    grad = conv_grad_weight(x, g, i, o, segments, 1)
    assert torch.equal(grad, expected_grad_weight(x, g, i, o, segments))


@pytest.mark.parametrize("channels", [32, 48])
def test_rows_in_a_run_give_what_the_same_rows_give_apart(isa, channels):
    n = 50
    x, w = torch.randn(n, channels).bfloat16(), torch.randn(1, channels, 40).bfloat16()
    run, mixed = torch.arange(n, dtype=torch.int32), torch.randperm(n).to(torch.int32)
    segments = torch.tensor([0, n])
    y = conv(x, w, None, run, run, segments, n, 1)
    assert torch.equal(conv(x, w, None, mixed, mixed, segments, n, 1), y)


@pytest.mark.parametrize("channels", [5, 31, 40])
def test_numbers_beside_the_rows_are_never_used(isa, channels):
    # a row that ends within a register: what lies behind belongs to others
    n, width = 30, 9
    every = torch.full((n, 2 * channels), torch.nan).bfloat16()
    every[:, :channels] = whole_numbers(n, channels)
    w = whole_numbers(1, channels, 2 * width)
    rows = torch.arange(n, dtype=torch.int32)
    segments = torch.tensor([0, n])
    y = conv(every, w, None, rows, rows, segments, n, 2)
    assert torch.equal(
        y[:, :width], (every[:, :channels].double() @ w[0, :, :width].double()).bfloat16()
    )
    assert y[:, width:].isnan().all()
    g = torch.full((n, 2 * width), torch.nan).bfloat16()
    g[:, :width] = whole_numbers(n, width)
    grad = conv_grad_weight(every, g, rows, rows, segments, 2)[0]
    expected = every[:, :channels].double().T @ g[:, :width].double()
    assert torch.equal(grad[:, :width], expected.bfloat16())


@pytest.mark.parametrize(("channels", "width", "groups"), [(33, 70, 1), (64, 200, 1), (48, 96, 3)])
def test_no_thread_count_changes_a_bit(isa, channels, width, groups):
    n = 700
    counts = [n, 150, 0, 333]
    i, o, segments = scattered(n, n, len(counts), counts)
    x, g = torch.randn(n, channels).bfloat16(), torch.randn(n, width).bfloat16()
    w = torch.randn(len(counts), channels // groups, width).bfloat16()

    def both():
        return (
            conv(x, w, None, i, o, segments, n, groups),
            conv_grad_weight(x, g, i, o, segments, groups),
        )

    torch.set_num_threads(1)
    expected = both()
    for threads in (2, 3):
        torch.set_num_threads(threads)
        for one, other in zip(expected, both(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("channels", [64, 40, 17, 7])
def test_results_are_rounded_to_nearest_even(isa, channels):
    # depthwise, one pair a row: the product is a float32, denormal or not, before it is rounded
    patterns = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    x = torch.cat([patterns, patterns])[: 2**16 // channels * channels + channels]
    x = x.view(-1, channels)
    rows = torch.arange(len(x), dtype=torch.int32)
    for factor in (1.0, 2.0**-20, 1.0078125, 3.0):
        w = torch.full((1, 1, channels), factor, dtype=torch.bfloat16)
        y = conv(x, w, None, rows, rows, torch.tensor([0, len(x)]), len(x), channels)
        expected = (x.float() * factor).to(torch.bfloat16)
        numbers = ~expected.isnan()
        assert torch.equal(y.isnan(), ~numbers)
        assert torch.equal(y[numbers], expected[numbers])
        assert set(y.view(torch.int16)[~numbers].tolist()) == {0x7FC0}
