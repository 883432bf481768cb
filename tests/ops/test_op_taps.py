"""Sums over taps with weights of each site's own, their adjoints, and what they refuse."""

import pytest
import torch

from sparseconv.functional.taps import neighbour_dot, neighbour_sum, taps_present
from sparseconv.geometry import Geometry
from sparseconv.ops.taps import tap_dot, tap_sum
from sparseconv.testing.sample import pairs_of
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
CASES = {
    "submanifold": ("plane", 3, 1, 1),
    "strided": ("random_sparse", (3, 2, 1), 2, 1),
    "empty": ("empty", 3, 1, 1),
    "one": ("one_voxel", 3, 1, 1),
}


def loops(x, w, b, book, num_out):
    """The three sums of the definition, pair by pair and group by group."""
    in_rows, out_rows, segments = (t.tolist() for t in book)
    n, channels = x.shape
    taps, groups = w.shape[1:]
    total, back = torch.zeros(num_out, channels).double(), torch.zeros(n, channels).double()
    dots = torch.zeros(num_out, taps, groups).double()
    group = torch.tensor([c * groups // channels for c in range(channels)])
    for t in range(taps):
        for p in range(segments[t], segments[t + 1]):
            i, o = in_rows[p], out_rows[p]
            total[o] += w[o, t, group] * x[i]
            back[i] += w[o, t, group] * b[o]
            dots[o, t].index_add_(0, group, x[i] * b[o])
    return total, back, dots


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("case", "channels", "groups"), [
    ("submanifold", 6, 1),
    ("submanifold", 16, 16),
    ("strided", 10, 5),
    ("strided", 33, 3),
    ("empty", 4, 2),
    ("one", 4, 2),
])  # fmt: skip
def test_sums_and_dots(backend, case, channels, groups, dtype):
    name, *geometry = CASES[case]
    *book, n, m = pairs_of(name, *geometry)
    taps = len(book[2]) - 1
    x, b, w = torch.randn(n, channels), torch.randn(m, channels), torch.randn(m, taps, groups)
    x, b, w = x.to(dtype), b.to(dtype), w.to(dtype)
    total, back, dots = loops(x.double(), w.double(), b.double(), book, m)
    close = tolerance(dtype, "forward", taps)
    torch.testing.assert_close(tap_sum(x, w, *book, m).double(), total, **close)
    torch.testing.assert_close(tap_sum(b, w, *book, n, transposed=True).double(), back, **close)
    close = tolerance(dtype, "forward", channels)
    torch.testing.assert_close(tap_dot(x, b, *book, groups).double(), dots, **close)


def test_views_and_pairs_in_any_order(backend):
    *book, n, m = pairs_of("random_sparse", 3, 1, 1)
    x, b, w = torch.randn(n, 8), torch.randn(m, 8), torch.randn(m, 27, 4)
    order = torch.cat(
        [a + torch.randperm(z - a) for a, z in zip(book[2][:-1], book[2][1:], strict=True)]
    )
    mixed = book[0][order], book[1][order], book[2]
    apart = torch.stack([book[0], book[0]], 1)[:, 0], mixed[1], mixed[2]
    assert not apart[0].is_contiguous()
    left, right, own = x.t().contiguous().t(), b.repeat(1, 2)[:, 8:], w.permute(2, 0, 1)
    own = own.contiguous().permute(1, 2, 0)
    close = tolerance(torch.float32, "forward", 27)
    for found, expected in (
        (tap_sum(left, own, *mixed, m), tap_sum(x, w, *book, m)),
        (
            tap_sum(right, own, *mixed, n, transposed=True),
            tap_sum(b, w, *book, n, transposed=True),
        ),
        (tap_dot(left, right, *mixed, 4), tap_dot(x, b, *book, 4)),
    ):
        torch.testing.assert_close(found, expected, **close)


def test_a_weight_of_a_tap_that_is_absent_changes_nothing(backend):
    x = scene("random_sparse").tensor(4)
    geometry = Geometry.submanifold(3)
    book = x.topology.rulebook(x.level, x.level, geometry)
    present = taps_present(book, len(x))
    assert torch.equal(present, book.table(len(x)) >= 0)
    w = torch.randn(len(x), 27, 2).double().requires_grad_()
    y = neighbour_sum(x, w, geometry)
    (grad,) = torch.autograd.grad(y.features.square().sum(), w)
    assert not grad[~present].any() and grad[present].all()
    poisoned = torch.where(present[..., None], w, torch.inf)
    assert torch.equal(neighbour_sum(x, poisoned, geometry).features, y.features)


def test_faces_of_sparse_tensors(backend):
    x = scene("random_sparse").tensor(4)
    level = x.topology.down(x.level, Geometry.make(2, 2))
    geometry = Geometry.make(3, 2, 1)
    sites = x.topology.levels[level].coords
    w = torch.randn(len(sites), 27, 2).double()
    y = neighbour_sum(x, w, geometry, level)
    e = neighbour_dot(x, y, geometry, 2)
    rows = {tuple(c): n for n, c in enumerate(x.coords.tolist())}
    for o, (b, *at) in enumerate(sites.tolist()):
        total = torch.zeros(4).double()
        for t in range(27):
            tap = (t // 9 - 1, t // 3 % 3 - 1, t % 3 - 1)
            i = rows.get((b, *(2 * a + d for a, d in zip(at, tap, strict=True))))
            mine = torch.zeros(4).double() if i is None else x.features[i]
            total += w[o, t].repeat_interleave(2) * mine
            torch.testing.assert_close(e[o, t], (mine * y.features[o]).reshape(2, 2).sum(1))
        torch.testing.assert_close(y.features[o], total)


def test_autocast_casts_both(backend):
    *book, n, m = pairs_of("random_sparse", 3, 1, 1)
    x, w = torch.randn(n, 4), torch.randn(m, 27, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert tap_sum(x, w.bfloat16(), *book, m).dtype == torch.bfloat16
        assert tap_dot(x.bfloat16(), torch.randn(m, 4), *book).dtype == torch.bfloat16


ROWS, SEGMENTS = torch.zeros(2, dtype=torch.int32), torch.tensor([0, 2])
X, W = torch.ones(3, 4), torch.ones(3, 1, 2)
REFUSALS = {
    "features": (lambda: tap_sum(X.int(), W, ROWS, ROWS, SEGMENTS, 3), TypeError, "features: exp"),
    "dtype": (lambda: tap_sum(X, W.double(), ROWS, ROWS, SEGMENTS, 3), TypeError, "weights: exp"),
    "taps": (
        lambda: tap_sum(X, W.expand(3, 5, 2), ROWS, ROWS, SEGMENTS, 3),
        ValueError,
        r"weights: expected shape \[M, 1, G\]",
    ),
    "axes": (
        lambda: tap_sum(X, W[0], ROWS, ROWS, SEGMENTS, 3),
        ValueError,
        r"weights: expected shape \[M, 1, G\]",
    ),
    "groups": (
        lambda: tap_sum(X, torch.ones(3, 1, 3), ROWS, ROWS, SEGMENTS, 3),
        ValueError,
        "groups: expected a divisor of 4",
    ),
    "rows of the weights": (
        lambda: tap_sum(X, W, ROWS, ROWS, SEGMENTS, 4),
        ValueError,
        "weights: expected 4 rows",
    ),
    "rows of the weights, transposed": (
        lambda: tap_sum(X[:2], W, ROWS, ROWS, SEGMENTS, 3, transposed=True),
        ValueError,
        "weights: expected 2 rows",
    ),
    "pairs": (
        lambda: tap_sum(X, W, ROWS[:1], ROWS, SEGMENTS, 3),
        ValueError,
        "out_rows: expected 1 entries",
    ),
    "dot channels": (
        lambda: tap_dot(X, X[:, :2], ROWS, ROWS, SEGMENTS),
        ValueError,
        r"b: expected shape \[M, 4\]",
    ),
    "dot groups": (
        lambda: tap_dot(X, X, ROWS, ROWS, SEGMENTS, 3),
        ValueError,
        "groups: expected a divisor of 4",
    ),
    "dot dtype": (
        lambda: tap_dot(X, X.double(), ROWS, ROWS, SEGMENTS),
        TypeError,
        "b: expected float32",
    ),
}


@pytest.mark.parametrize("call", REFUSALS)
def test_refusals(call):
    run, error, words = REFUSALS[call]
    with pytest.raises(error, match=words):
        run()


@pytest.mark.parametrize("rows", [[0, 3], [-1, 0]])
def test_rows_out_of_range(backend, rows):
    bad = torch.tensor(rows, dtype=torch.int32)
    for pair in ((bad, ROWS), (ROWS, bad)):
        for run in (
            lambda i, o: tap_sum(X, W, i, o, SEGMENTS, 3),
            lambda i, o: tap_sum(X, W, i, o, SEGMENTS, 3, transposed=True),
            lambda i, o: tap_dot(X, X, i, o, SEGMENTS, 2),
        ):
            with pytest.raises((IndexError, ValueError), match="_rows: expected rows"):
                run(*pair)
