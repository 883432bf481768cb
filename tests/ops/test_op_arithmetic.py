"""Convolution, sums and maxima over pairs against plain loops, in every dtype."""

import pytest
import torch

from sparseconv.ops.aggregate import aggregate, pair_dot
from sparseconv.ops.conv import conv, conv_grad_weight
from sparseconv.ops.pool import pool_max
from sparseconv.testing import oracle
from sparseconv.testing.sample import pairs_of
from sparseconv.testing.tolerances import tolerance

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
EXACT = {"rtol": 0, "atol": 1e-12}
SCENES = [
    ("random_sparse", 3, 1, 1),
    ("negative", 2, 2),
    ("one_voxel", 3, 2, 1),
    ("empty", 3, 1, 1),
]


def close(dtype, quantity, terms):
    return EXACT if dtype == torch.float64 else tolerance(dtype, quantity, terms)


def loose(in_rows, out_rows, segments, seed=0):
    """Shuffle the pairs of each tap."""
    order = torch.cat(
        [
            start + torch.randperm(stop - start)
            for start, stop in zip(segments[:-1].tolist(), segments[1:].tolist(), strict=True)
        ]
    )
    return in_rows[order], out_rows[order], segments


def triples(in_rows, out_rows, segments):
    taps = torch.repeat_interleave(torch.arange(len(segments) - 1), segments.diff())
    return list(zip(in_rows.tolist(), out_rows.tolist(), taps.tolist(), strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", SCENES, ids=str)
@pytest.mark.parametrize(
    ("channels", "width", "groups"), [(1, 1, 1), (5, 7, 1), (32, 48, 1), (6, 4, 2), (8, 8, 8)]
)
def test_conv(backend, case, dtype, channels, width, groups):
    in_rows, out_rows, segments, n, m = pairs_of(*case)
    taps = len(segments) - 1
    x = torch.randn(n, channels, dtype=torch.float64).to(dtype)
    w = torch.randn(taps, channels // groups, width, dtype=torch.float64).to(dtype)
    b = torch.randn(width, dtype=torch.float64).to(dtype)
    expected = oracle.convolve(x, w, b, triples(in_rows, out_rows, segments), m, groups)
    for book in ((in_rows, out_rows, segments), loose(in_rows, out_rows, segments)):
        y = conv(x, w, b, *book, m, groups)
        assert y.dtype == dtype and y.shape == (m, width)
        terms = taps * channels // groups
        torch.testing.assert_close(y.double(), expected, **close(dtype, "forward", terms))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", SCENES, ids=str)
@pytest.mark.parametrize(("channels", "width", "groups"), [(5, 7, 1), (32, 64, 1), (6, 6, 6)])
def test_residual_and_relu(backend, case, dtype, channels, width, groups):
    *book, n, m = pairs_of(*case)
    x = torch.randn(n, channels, dtype=torch.float64).to(dtype)
    w = torch.randn(len(book[2]) - 1, channels // groups, width, dtype=torch.float64).to(dtype)
    b = torch.randn(width, dtype=torch.float64).to(dtype)
    r = torch.randn(m, width, dtype=torch.float64).to(dtype)
    sums = oracle.convolve(x, w, b, triples(*book), m, groups)
    near = close(dtype, "forward", len(w) * channels // groups)
    for residual, relu in ((r, True), (r, False), (None, True)):
        expected = sums if residual is None else sums + r.double()
        expected = expected.clamp(min=0) if relu else expected
        y = conv(x, w, b, *book, m, groups, residual=residual, relu=relu)
        assert y.dtype == dtype
        torch.testing.assert_close(y.double(), expected, **near)


def test_relu_keeps_what_is_no_number(backend):
    rows = torch.arange(2, dtype=torch.int32)
    x = torch.tensor([[float("nan")], [-1.0]])
    y = conv(x, torch.ones(1, 1, 1), None, rows, rows, torch.tensor([0, 2]), 2, relu=True)
    assert y[0].isnan() and y[1] == 0


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_gradients_of_a_symmetric_rulebook(backend, groups):
    *book, n, m = pairs_of("random_sparse", 3, 1, 1, onto_itself=True)
    assert n == m > 20
    x = torch.randn(n, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(27, 4 // groups, 4, dtype=torch.float64, requires_grad=True)
    g, pairs = torch.randn(n, 4, dtype=torch.float64), triples(*book)
    expected = oracle.convolve(x, w, None, pairs, n, groups)
    wanted = torch.autograd.grad(expected, (x, w), g)
    for symmetric in (False, True):
        y = conv(x, w, None, *book, n, groups, symmetric=symmetric)
        for found, right in zip(torch.autograd.grad(y, (x, w), g), wanted, strict=True):
            torch.testing.assert_close(found, right, **EXACT)


def test_fusing_and_differentiating_agree(backend):
    *book, n, m = pairs_of("negative", 2, 2)
    x, w = torch.randn(n, 3).double(), torch.randn(8, 3, 5).double().requires_grad_()
    r = torch.randn(m, 5).double().requires_grad_()
    y = conv(x, w, None, *book, m, residual=r, relu=True)
    with torch.no_grad():
        torch.testing.assert_close(conv(x, w, None, *book, m, residual=r, relu=True), y)

    def run(w, r):
        return conv(x, w, None, *book, m, residual=r, relu=True)

    assert torch.autograd.gradcheck(run, (w, r))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", SCENES, ids=str)
@pytest.mark.parametrize(("channels", "width", "groups"), [(1, 1, 1), (5, 7, 1), (6, 4, 2)])
def test_conv_grad_weight(backend, case, dtype, channels, width, groups):
    in_rows, out_rows, segments, n, m = pairs_of(*case)
    x = torch.randn(n, channels, dtype=torch.float64).to(dtype)
    g = torch.randn(m, width, dtype=torch.float64).to(dtype)
    c, d = channels // groups, width // groups
    expected = torch.zeros(len(segments) - 1, c, width, dtype=torch.float64)
    for i, o, t in triples(in_rows, out_rows, segments):
        for k in range(groups):
            outer = torch.outer(
                x[i, k * c : (k + 1) * c].double(), g[o, k * d : (k + 1) * d].double()
            )
            expected[t, :, k * d : (k + 1) * d] += outer
    for book in ((in_rows, out_rows, segments), loose(in_rows, out_rows, segments)):
        grad = conv_grad_weight(x, g, *book, groups)
        assert grad.dtype == dtype
        torch.testing.assert_close(
            grad.double(), expected, **close(dtype, "grad_weight", max(len(in_rows), 1))
        )


def test_conv_on_pairs_by_hand(backend):
    # an output row may repeat within a tap, rows may stay without a pair, taps without pairs
    in_rows = torch.tensor([0, 1, 2, 2], dtype=torch.int32)
    out_rows = torch.tensor([3, 3, 0, 3], dtype=torch.int32)
    segments = torch.tensor([0, 0, 3, 4, 4])
    x, w = torch.randn(3, 4, dtype=torch.float64), torch.randn(4, 4, 2, dtype=torch.float64)
    b = torch.randn(2, dtype=torch.float64)
    y = conv(x, w, b, in_rows, out_rows, segments, 5)
    torch.testing.assert_close(y[0], x[2] @ w[1] + b)
    torch.testing.assert_close(y[3], (x[0] + x[1]) @ w[1] + x[2] @ w[2] + b)
    for row in (1, 2, 4):
        assert torch.equal(y[row], b)
    grad = conv_grad_weight(x, y, in_rows, out_rows, segments)
    assert not grad[0].any() and not grad[3].any()
    torch.testing.assert_close(grad[2], torch.outer(x[2], y[3]))
    assert not conv(x, w, None, in_rows, out_rows, segments, 5)[1].any()


def test_conv_without_taps_is_the_bias(backend):
    none = torch.zeros(0, dtype=torch.int32)
    b = torch.randn(2)
    y = conv(torch.randn(3, 4), torch.zeros(0, 4, 2), b, none, none, torch.zeros(1).long(), 3)
    assert torch.equal(y, b.expand(3, 2))


def test_half_sums_are_kept_in_float32(backend):
    # 2048 + 1 - 2048 is 0 when sums are kept in half precision
    rows = torch.zeros(3, dtype=torch.int32)
    x = torch.ones(1, 1, dtype=torch.float16)
    w = torch.tensor([2048.0, 1.0, -2048.0], dtype=torch.float16).reshape(3, 1, 1)
    assert conv(x, w, None, rows, rows, torch.arange(4), 1).item() == 1.0
    many = torch.ones(4096, 1, dtype=torch.bfloat16)
    rows = torch.arange(4096, dtype=torch.int32)
    assert aggregate(many, rows, torch.zeros_like(rows), None, 1).item() == 4096.0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", SCENES, ids=str)
@pytest.mark.parametrize("weighted", [False, True], ids=["ones", "weights"])
def test_aggregate_and_pair_dot(backend, case, dtype, weighted):
    in_rows, out_rows, _, n, m = pairs_of(*case)
    x = torch.randn(n, 5, dtype=torch.float64).to(dtype)
    g = torch.randn(m, 5, dtype=torch.float64).to(dtype)
    w = torch.randn(len(in_rows), dtype=torch.float64).to(dtype) if weighted else None
    expected = torch.zeros(m, 5, dtype=torch.float64)
    dots = torch.zeros(len(in_rows), dtype=torch.float64)
    for p, (i, o) in enumerate(zip(in_rows.tolist(), out_rows.tolist(), strict=True)):
        expected[o] += x[i].double() * (1.0 if w is None else w[p].double())
        dots[p] = x[i].double() @ g[o].double()
    y = aggregate(x, in_rows, out_rows, w, m)
    torch.testing.assert_close(y.double(), expected, **close(dtype, "forward", 27))
    if not weighted:
        found = pair_dot(x, g, in_rows, out_rows)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), dots, **close(dtype, "forward", 5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", SCENES, ids=str)
def test_pool_max(backend, case, dtype):
    in_rows, out_rows, segments, n, m = pairs_of(*case)
    x = (torch.randn(n, 5, dtype=torch.float64) - 3).to(dtype)
    expected = oracle.pool(x, triples(in_rows, out_rows, segments), m, "max")
    y, winner = pool_max(x, in_rows, out_rows, m)
    torch.testing.assert_close(y, expected, **tolerance(dtype, "choice"))
    assert winner.dtype == torch.int32
    if m:
        torch.testing.assert_close(x.gather(0, winner.long()), y, rtol=0, atol=0)


def test_pool_max_of_negatives_ties_nan_infinity_and_nothing(backend):
    nan, inf = float("nan"), float("inf")
    x = torch.tensor([[-5.0, 1, nan, -inf], [-2.0, 1, 9.0, -inf], [-3.0, 0, nan, -inf]])
    in_rows = torch.tensor([2, 1, 0, 2], dtype=torch.int32)
    out_rows = torch.tensor([0, 0, 0, 2], dtype=torch.int32)
    y, winner = pool_max(x, in_rows, out_rows, 3)
    assert y[0, 0] == -2 and winner[0, 0] == 1
    assert y[0, 1] == 1 and winner[0, 1] == 0
    assert y[0, 2].isnan() and winner[0, 2] == 0
    assert y[0, 3] == -inf and winner[0, 3] == 0
    assert not y[1].any() and (winner[1] == -1).all()
    assert (winner[2] == 2).all() and y[2, 0] == -3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_reaches_its_neighbours_alone(backend, dtype, value):
    # a kernel that pads tiles with other rows times zero would spread it
    in_rows, out_rows, segments, n, m = pairs_of("random_sparse", 3, 1, 1)
    x, w = torch.randn(n, 33).to(dtype), torch.randn(27, 33, 17).to(dtype)
    g = torch.randn(m, 17).to(dtype)
    bad = x.clone()
    bad[5, 3] = value
    reached = torch.zeros(m, dtype=torch.bool)
    reached[out_rows[in_rows == 5].long()] = True
    y, z = (conv(t, w, None, in_rows, out_rows, segments, m) for t in (x, bad))
    assert torch.equal(y[~reached], z[~reached]) and not z[reached].isfinite().any()
    a, b = (conv_grad_weight(t, g, in_rows, out_rows, segments) for t in (x, bad))
    others = [c for c in range(33) if c != 3]
    assert torch.equal(a[:, others], b[:, others]) and not b[:, 3].isfinite().all()
    s, t = (aggregate(f, in_rows, out_rows, None, m) for f in (x, bad))
    assert torch.equal(s[~reached], t[~reached])


def test_nothing_leaks_from_non_contiguous_inputs(backend):
    in_rows, out_rows, segments, n, m = pairs_of("random_sparse", 3, 1, 1)
    x, w, b = torch.randn(n, 6), torch.randn(27, 6, 4), torch.randn(4)
    y = conv(x, w, b, in_rows, out_rows, segments, m)
    views = (
        x.T.contiguous().T,
        w.permute(2, 1, 0).contiguous().permute(2, 1, 0),
        torch.stack([b, b], 1)[:, 0],
        torch.stack([in_rows, in_rows], 1)[:, 0],
        torch.stack([out_rows, out_rows], 1)[:, 1],
    )
    assert not any(v.is_contiguous() for v in views)
    torch.testing.assert_close(conv(*views, segments, m), y, **tolerance(torch.float32, "kernel"))
    grad = conv_grad_weight(x, y, in_rows, out_rows, segments)
    other = conv_grad_weight(views[0], y.T.contiguous().T, *views[3:], segments)
    torch.testing.assert_close(other, grad, **tolerance(torch.float32, "traced"))
    best, winner = pool_max(views[0], *views[3:], m)
    assert torch.equal(best, pool_max(x, in_rows, out_rows, m)[0]) and (winner >= 0).all()
    torch.testing.assert_close(
        aggregate(views[0], *views[3:], None, m), aggregate(x, in_rows, out_rows, None, m)
    )


@pytest.mark.parametrize("taps", [0, 1, 13, 14, 27])
def test_the_first_taps_of_a_rulebook_are_one(backend, taps):
    in_rows, out_rows, segments, n, m = pairs_of("backwards", 3, 1, 1)
    x = torch.randn(n, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(taps, 4, 6, dtype=torch.float64, requires_grad=True)
    end = int(segments[taps])
    whole = conv(x, w, None, in_rows, out_rows, segments[: taps + 1], m)
    part = conv(x, w, None, in_rows[:end], out_rows[:end], segments[: taps + 1], m)
    assert torch.equal(whole, part)
    probe = torch.randn(m, 6, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad((whole * probe).sum(), (x, w)),
        torch.autograd.grad((part * probe).sum(), (x, w)),
        strict=True,
    ):
        assert torch.equal(a, b)
