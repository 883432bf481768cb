"""The compiled convolution and its weight gradient against the reference, on arbitrary pairs."""

import pytest
import torch

pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

from sparseconv.backends.cpu import conv as cpu
from sparseconv.backends.reference import conv as reference
from sparseconv.ops.conv import NO_NORM
from sparseconv.testing.tolerances import tolerance

# relative to the largest magnitude: sums of at most 3000 terms, stored in the dtype
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
WIDTHS = [(1, 1), (3, 5), (5, 17), (17, 3), (64, 64), (100, 33), (200, 130), (20, 300)]


def random_pairs(n, m, pairs, taps, *, ordered):
    """Pairs with repeated output rows within a tap, taps of unequal size."""
    in_rows = torch.randint(max(n, 1), (pairs,), dtype=torch.int32)
    out_rows = torch.randint(max(m, 1), (pairs,), dtype=torch.int32)
    cuts = torch.randint(pairs + 1, (taps - 1,)).sort().values.tolist()
    segments = torch.tensor([0, *cuts, pairs])
    if ordered:
        parts = out_rows.split(segments.diff().tolist())
        out_rows = torch.cat([part.sort().values for part in parts])
    return in_rows, out_rows, segments


def agree(found, expected):
    assert found.dtype == expected.dtype and found.shape == expected.shape
    found, expected = found.double(), expected.double()
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(
        found, expected, rtol=0, atol=tolerance(agree.dtype, "kernel")["atol"] * max(scale, 1.0)
    )


def check(dtype, n, m, pairs, channels, width, groups, *, ordered, bias=True):
    in_rows, out_rows, segments = random_pairs(n, m, pairs, 4, ordered=ordered)
    x = torch.randn(n, channels).to(dtype)
    g = torch.randn(m, width).to(dtype)
    w = torch.randn(4, channels // groups, width).to(dtype)
    b = torch.randn(width).to(dtype) if bias else None
    agree.dtype = dtype
    args = (x, w, b, in_rows, out_rows, segments, m, groups)
    agree(cpu.conv(*args), reference.conv(*args))
    args = (x, g, in_rows, out_rows, segments, groups)
    agree(cpu.conv_grad_weight(*args), reference.conv_grad_weight(*args))


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("channels", "width"), WIDTHS)
def test_widths(isa, dtype, channels, width, ordered):
    check(dtype, 90, 70, 700, channels, width, 1, ordered=ordered, bias=ordered)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("channels", "width", "groups"),
    [(12, 24, 4), (6, 3, 3), (24, 24, 24), (24, 48, 24), (70, 70, 70)],
)
def test_groups(isa, dtype, channels, width, groups):
    check(dtype, 90, 70, 700, channels, width, groups, ordered=True)


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "bare"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("channels", "width", "groups", "rows"),
    [
        (16, 32, 1, 2000),
        (5, 17, 1, 70),
        (20, 300, 1, 70),
        (12, 24, 4, 70),
        (21, 21, 21, 70),
        (64, 64, 64, 70),
        (32, 16, 16, 70),
        (16, 64, 16, 70),
    ],
)
def test_norm_residual_and_relu(isa, dtype, channels, width, groups, rows, affine):
    """Of few and many rows, whole vectors and parts of them, depthwise and narrow groups."""
    book = random_pairs(90, rows, 10 * rows, 4, ordered=True)
    x, w = torch.randn(90, channels).to(dtype), torch.randn(4, channels // groups, width).to(dtype)
    bias, residual = torch.randn(width).to(dtype), torch.randn(rows, width).to(dtype)
    wide = reference.accumulator(dtype)
    mean, var, *scales = (torch.randn(width, dtype=wide) for _ in range(4))
    norm = mean, 0.3 + var.square(), *(scales if affine else (None, None)), 1e-3
    agree.dtype = dtype
    for other in (None, residual):
        for relu in (False, True):
            args = x, w, bias, *norm, other, relu, *book, rows, groups
            found = cpu.conv_fused(*args)
            agree(found, reference.conv_fused(*args))
            assert (found < 0).any() != relu


def test_a_norm_that_does_not_fit_is_refused():
    book = random_pairs(9, 7, 30, 4, ordered=True)
    x, w, c = torch.randn(9, 5), torch.randn(4, 5, 6), torch.ones(6)
    for name, at in (("mean", 0), ("var", 1), ("norm_weight", 2), ("norm_bias", 3)):
        for bad, error in ((c[:5], ValueError), (c.double(), TypeError)):
            norm = [c, c, c, c]
            norm[at] = bad
            with pytest.raises(error, match=f"{name}: expected"):
                cpu.conv_fused(x, w, None, *norm, 1e-5, None, False, *book, 7, 1)
    near = {"residual": c[None], "parents": torch.zeros(7, dtype=torch.int32)}
    with pytest.raises(ValueError, match="relu, norm: expected none where rows are lifted"):
        cpu.convolve(x, w, None, book, 7, norm=(c, c, None, None, 0.0), **near)


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_many_tiles(isa, ordered):
    check(torch.float32, 500, 5000, 20000, 16, 16, 1, ordered=ordered)
    check(torch.bfloat16, 500, 5000, 20000, 16, 18, 2, ordered=ordered)


@pytest.mark.parametrize(
    ("n", "m", "pairs"), [(0, 0, 0), (5, 0, 0), (0, 5, 0), (5, 7, 0), (1, 1, 1)]
)
def test_nothing_there(isa, n, m, pairs):
    check(torch.float32, n, m, pairs, 3, 4, 1, ordered=True)
    in_rows, out_rows, segments = random_pairs(n, m, pairs, 4, ordered=True)
    for channels, width in ((0, 4), (3, 0)):
        x, w, b = torch.randn(n, channels), torch.randn(4, channels, width), torch.randn(width)
        y = cpu.conv(x, w, b, in_rows, out_rows, segments, m, 1)
        assert y.shape == (m, width)
        if channels == 0:
            assert torch.equal(y, b.expand(m, width))
        grad = cpu.conv_grad_weight(x, y, in_rows, out_rows, segments, 1)
        assert grad.shape == (4, channels, width)
    x, g = torch.randn(n, 3).bfloat16(), torch.randn(m, 16).bfloat16()
    kind = in_rows, out_rows, segments, 1, False, False
    for unrounded in (False, True):
        found = cpu.conv_grad_weight(x, g, *kind, unrounded)
        agree.dtype = torch.bfloat16
        agree(found, reference.conv_grad_weight(x, g, *kind, unrounded))


def test_no_taps():
    none = torch.zeros(0, dtype=torch.int32)
    x, b = torch.randn(3, 2), torch.randn(4)
    y = cpu.conv(x, torch.zeros(0, 2, 4), b, none, none, torch.zeros(1, dtype=torch.int64), 5, 1)
    assert torch.equal(y, b.expand(5, 4))


def test_weight_in_any_memory_order(isa):
    in_rows, out_rows, segments = random_pairs(40, 30, 200, 27, ordered=True)
    x, w = torch.randn(40, 9), torch.randn(27, 9, 50)
    args = (None, in_rows, out_rows, segments, 30, 1)
    expected = cpu.conv(x, w, *args)
    for order in ((2, 1, 0), (1, 2, 0), (0, 2, 1)):
        back = [order.index(axis) for axis in range(3)]
        moved = w.permute(order).contiguous().permute(back)
        assert torch.equal(cpu.conv(x, moved, *args), expected)
    spread = torch.zeros(27, 18, 100)[:, ::2, ::2].copy_(w)
    assert torch.equal(cpu.conv(x, spread, *args), expected)


def test_a_number_that_is_none_stays_in_its_group(isa):
    in_rows, out_rows, segments = random_pairs(40, 30, 200, 2, ordered=True)
    x = torch.randn(40, 12)
    x[:, 4:8] = torch.nan
    w = torch.randn(2, 4, 6)
    y = cpu.conv(x, w, None, in_rows, out_rows, segments, 30, 3)
    hit = torch.bincount(out_rows.long(), minlength=30) > 0
    assert y[hit, 2:4].isnan().all()
    assert not y[:, :2].isnan().any() and not y[:, 4:].isnan().any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("channels", [1, 32])
def test_storage_rounds_as_torch(isa, dtype, channels):
    # one pair a row and weight 1: the result is the float32 sum of input and bias, rounded once
    values = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    x = torch.zeros(len(values), channels, dtype=dtype)
    x[:, -1] = values
    rows = torch.arange(2**16, dtype=torch.int32)
    segments = torch.tensor([0, len(rows)])
    one = torch.ones(1, channels, 1, dtype=dtype)
    factors = values.float()[:, None]
    flushing = ("avx512bf16", "amx") + ("amx_emulated",) * (channels >= 16)
    if dtype == torch.bfloat16 and isa in flushing:
        factors[factors.abs() < torch.finfo(dtype).tiny] = 0
    for shift in (0.0, 2.0**-9, 1.0):
        b = torch.tensor([shift], dtype=dtype)
        y = cpu.conv(x, one, b, rows, rows, segments, len(rows), 1)
        expected = (b.float() + factors).to(dtype)
        assert torch.equal(y.isnan(), expected.isnan())
        assert torch.equal(y.nan_to_num(), expected.nan_to_num())


def test_wrong_rows_are_refused_and_not_read():
    x, w = torch.randn(4, 2), torch.randn(1, 2, 3)
    good, segments = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([0, 2])
    for bad in (torch.tensor([0, 4]), torch.tensor([-1, 0])):
        bad = bad.to(torch.int32)
        with pytest.raises(ValueError, match="in_rows"):
            cpu.conv(x, w, None, bad, good, segments, 4, 1)
        with pytest.raises(ValueError, match="out_rows"):
            cpu.conv(x, w, None, good, bad, segments, 4, 1)
        with pytest.raises(ValueError, match="in_rows"):
            cpu.conv_grad_weight(x, x, bad, good, segments, 1)
    for cut in ([1, 2], [0, 3], [0, -1]):
        with pytest.raises(ValueError, match="segments"):
            cpu.conv(x, w, None, good, good, torch.tensor(cut), 4, 1)


def test_wrong_shapes_and_dtypes_are_refused():
    x, w = torch.randn(4, 2), torch.randn(1, 2, 3)
    rows, segments = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([0, 2])
    with pytest.raises(TypeError, match="weight"):
        cpu.conv(x, w.double(), None, rows, rows, segments, 4, 1)
    with pytest.raises(ValueError, match="weight"):
        cpu.conv(x, torch.randn(2, 2, 3), None, rows, rows, segments, 4, 1)
    with pytest.raises(ValueError, match="bias"):
        cpu.conv(x, w, torch.randn(2), rows, rows, segments, 4, 1)
    with pytest.raises(ValueError, match="groups"):
        cpu.conv(x, w, None, rows, rows, segments, 4, 2)
    with pytest.raises(TypeError, match="in_rows"):
        cpu.conv(x, w, None, rows.long(), rows, segments, 4, 1)
    with pytest.raises(TypeError, match="features"):
        cpu.conv(x.to(torch.int32), w, None, rows, rows, segments, 4, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("channels", "width", "groups"), [(5, 17, 1), (64, 64, 1), (40, 200, 1), (24, 48, 4), (9, 9, 9)]
)
def test_a_wide_weight_is_rounded_and_its_gradient_is_not(isa, dtype, channels, width, groups):
    *book, segments = random_pairs(60, 50, 500, 4, ordered=True)
    x, g = torch.randn(60, channels).to(dtype), torch.randn(50, width).to(dtype)
    w = torch.randn(4, channels // groups, width)
    args = (None, *book, segments, 50, groups)
    expected = cpu.conv(x, w.to(dtype), *args)
    # as the input gradient reads it, and with no step of 1
    for view in (w, w.mT.contiguous().mT, w.repeat_interleave(2, 2)[:, :, ::2]):
        assert torch.equal(cpu.conv(x, view, *args), expected)
    assert torch.equal(cpu.conv(x, w.flip(0), *args, False, True), expected)
    kind = (*book, segments, groups, False, False)
    rounded, unrounded = (cpu.conv_grad_weight(x, g, *kind, wide) for wide in (False, True))
    assert unrounded.dtype == torch.float32 and torch.equal(unrounded.to(dtype), rounded)
    agree.dtype = torch.float32
    agree(unrounded, reference.conv_grad_weight(x, g, *kind, True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_kind_of_wide_weight_is_rounded_as_torch_does(isa, dtype):
    # halves between two numbers, infinities, numbers beyond the largest and none; x picks them out
    near = torch.tensor([1.0, -3.0, 0.5, 2.0**-12, 1e-30, 300.0])
    steps = torch.arange(-4, 5) * 2.0**-9
    odd = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, 3.4e38, -3.4e38, torch.nan, 65519.0])
    numbers = torch.cat([(near[:, None] * (1 + steps)).flatten(), odd])
    n = len(numbers)
    for channels in (1, 2, 40):
        w = torch.zeros(1, channels, n)
        w[0, channels - 1] = numbers
        x = torch.zeros(1, channels).to(dtype)
        x[0, channels - 1] = 1
        row, segments = torch.zeros(1, dtype=torch.int32), torch.tensor([0, 1])
        for view in (w, w.mT.contiguous().mT):
            y = cpu.conv(x, view, None, row, row, segments, 1, 1)
            # zeros of either sign: a sum begins with 0
            torch.testing.assert_close(y[0], numbers.to(dtype), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [5, 32])
@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_of_taps_whose_pairs_lie_in_one_tile_or_nowhere(isa, dtype, width, threads):
    m, channels = 5000, 16
    places = [torch.arange(0), torch.arange(4900, 5000), torch.arange(100), torch.arange(0, m, 7)]
    out_rows = torch.cat([*places, places[0]]).to(torch.int32)
    segments = torch.tensor([0, *(len(p) for p in places), 0]).cumsum(0)
    in_rows = torch.randint(40, out_rows.shape, dtype=torch.int32)
    x, g = torch.randn(40, channels).to(dtype), torch.randn(m, width).to(dtype)
    kind = in_rows, out_rows, segments, 1, False, False
    torch.set_num_threads(threads)
    agree.dtype = torch.float32
    found = cpu.conv_grad_weight(x, g, *kind, True)
    agree(found, reference.conv_grad_weight(x, g, *kind, True))
    assert not found[0].any() and not found[4].any()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("channels", "width"), [(256, 256), (200, 264), (131, 170)])
def test_gradients_that_leave_the_caches(isa, dtype, channels, width, threads):
    """Large ones of few pairs a tap are written past them: one chunk, several, or none a tap."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        counts = [0, 1, 34, 96, 97, 200] + [40] * 21
        segments = torch.tensor([0, *counts]).cumsum(0)
        pairs = sum(counts)
        in_rows = torch.randint(80, (pairs,), dtype=torch.int32)
        out_rows = torch.randint(80, (pairs,), dtype=torch.int32)
        x, g = torch.randn(80, channels).to(dtype), torch.randn(80, width).to(dtype)
        book = in_rows, out_rows, segments
        agree.dtype = dtype
        for unrounded in (False, True):
            args = (x, g, *book, 1, False, False, unrounded)
            for _ in range(2):
                agree(cpu.conv_grad_weight(*args), reference.conv_grad_weight(*args))
    finally:
        torch.set_num_threads(before)


def test_a_weight_of_another_dtype_is_refused():
    x, rows = torch.randn(3, 4), torch.arange(3, dtype=torch.int32)
    with pytest.raises(TypeError, match="weight: expected"):
        cpu.conv(x, torch.randn(1, 4, 4).bfloat16(), None, rows, rows, torch.tensor([0, 3]), 3, 1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("groups", "channels", "width"), [(1, 32, 16), (1, 5, 3), (4, 8, 8)])
def test_columns_of_a_tensor_are_read_where_they_lie(isa, dtype, groups, channels, width):
    n = 90
    book = random_pairs(n, n, 700, 4, ordered=True)
    x, g = (
        torch.randn(n, 40).to(dtype)[:, 4 : 4 + channels],
        torch.randn(n, 20).to(dtype)[:, :width],
    )
    w = torch.randn(4, channels // groups, width).to(dtype)
    found = cpu.conv(x, w, None, *book, n, groups)
    assert torch.equal(found, cpu.conv(x.contiguous(), w, None, *book, n, groups))
    found = cpu.conv_grad_weight(x, g, *book, groups)
    assert torch.equal(found, cpu.conv_grad_weight(x.contiguous(), g.contiguous(), *book, groups))
    # of one row the stride says nothing, and turned rows have none that serves
    one = torch.randn(1, 3 * channels).to(dtype)[:, ::3]
    book = random_pairs(1, 1, 8, 4, ordered=True)
    found = cpu.conv(one, w, None, *book, 1, groups)
    assert torch.equal(found, cpu.conv(one.contiguous(), w, None, *book, 1, groups))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("width", "more"), [(16, 0), (16, 8), (5, 3), (200, 7)])
def test_rows_of_parents_are_added_and_their_further_columns_copied(isa, dtype, width, more):
    n, m = 40, 3000
    book = random_pairs(n, m, 7000, 4, ordered=True)
    x, w = torch.randn(n, 6).to(dtype), torch.randn(4, 6, width).to(dtype)
    lifted = torch.randn(9, width + more).to(dtype)
    parents = torch.randint(9, (m,), dtype=torch.int32)
    out = torch.full((m, width + more + 2), 7.0).to(dtype)
    view = out[:, 1:-1]
    near = {"residual": lifted, "parents": parents, "out": view}
    cpu.convolve(x, w, None, book, m, **near)
    rows = lifted[parents.long()]
    expected = reference.conv_fused(
        x, w, None, *NO_NORM, rows[:, :width].contiguous(), False, *book, m, 1
    )
    agree.dtype = dtype
    agree(view[:, :width], expected)
    assert torch.equal(view[:, width:], rows[:, width:])
    counts = torch.arange(1, 10)
    cpu.convolve(x, w, None, book, m, **near, counts=counts)
    rows = (lifted.double() / counts[:, None])[parents.long()].to(dtype)
    expected = reference.conv_fused(
        x, w, None, *NO_NORM, rows[:, :width].contiguous(), False, *book, m, 1
    )
    agree(view[:, :width], expected)
    agree(view[:, width:], rows[:, width:])
    with pytest.raises(ValueError, match="relu, norm: expected none where rows are lifted"):
        cpu.convolve(x, w, None, book, m, **near, relu=True)
    assert (out[:, 0] == 7).all() and (out[:, -1] == 7).all()
