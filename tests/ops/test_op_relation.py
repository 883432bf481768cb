"""Means weighed by a softmax of likeness and place, their gradients, and what they refuse."""

import math

import pytest
import torch

from sparseconv.functional.relation import related_mean, related_shares
from sparseconv.geometry import Geometry
from sparseconv.ops.relation import LIKENESS, relation_mean, relation_shares
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


def likeness(kind, q, k):
    return {"sqdiff": -((q - k) ** 2), "absdiff": -abs(q - k), "dot": q * k}[kind]


def numbers(name, channels, groups, dtype=torch.float64, spread=1.0):
    *book, n, m = pairs_of(*CASES[name])
    wide = torch.promote_types(dtype, torch.float32)
    q, k, f = (spread * torch.randn(r, groups, dtype=wide) for r in (m, n, len(book[2]) - 1))
    return (torch.randn(n, channels).to(dtype), q, k, f), book


def loops(x, q, k, f, book, kind):
    """Site by site and pair by pair: exponentials as they are, and their sum."""
    in_rows, out_rows, segments = (t.tolist() for t in book)
    (m, groups), channels = q.shape, x.shape[1]
    reads = [[] for _ in range(m)]
    for t in range(len(segments) - 1):
        for p in range(segments[t], segments[t + 1]):
            reads[out_rows[p]].append((t, in_rows[p]))
    rows = []
    of_channel = torch.tensor([c * groups // channels for c in range(channels)])
    for o in range(m):
        total, mean = torch.zeros(groups).double(), torch.zeros(channels).double()
        for t, i in reads[o]:
            share = torch.exp(likeness(kind, q[o], k[i]) + f[t])
            total, mean = total + share, mean + share[of_channel] * x[i]
        rows.append(mean / total[of_channel] if reads[o] else mean)
    return torch.stack(rows) if rows else 0 * x


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", LIKENESS)
@pytest.mark.parametrize(("case", "channels", "groups"), [
    ("submanifold", 6, 1),
    ("strided", 9, 9),
    ("strided", 34, 17),
    ("empty", 4, 2),
    ("one", 4, 2),
])  # fmt: skip
def test_mean_and_gradients(isa, dtype, kind, case, channels, groups):
    given, book = numbers(case, channels, groups, dtype)
    leaves = [t.clone().requires_grad_() for t in given]
    wide = [t.detach().double().requires_grad_() for t in given]
    y = relation_mean(*leaves, *book, kind)
    expected = loops(*wide, book, kind)
    g = torch.randn(y.shape).to(dtype)
    y.backward(g)
    grads = torch.autograd.grad(expected, wide, g.double(), allow_unused=True)
    # exponentials are of sums of a few products; gradients sum over all that touch a number
    close = tolerance(dtype, "forward", len(book[2]))
    torch.testing.assert_close(y.double(), expected, **close)
    close = tolerance(dtype, "grad_weight", 27 * channels)
    for name, leaf, grad in zip(("x", "query", "key", "prior"), leaves, grads, strict=True):
        grad = torch.zeros_like(leaf).double() if grad is None else grad
        torch.testing.assert_close(leaf.grad.double(), grad, **close, msg=name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_exponentials_are_as_good_as_the_c_librarys(isa, dtype):
    # two taps whose logits differ by v have shares 1 / (1 + e^v)
    rows = 4000
    apart = torch.linspace(0, 120, rows, dtype=dtype)
    key = torch.stack([torch.zeros(rows, dtype=dtype), -apart], 1).reshape(-1, 1)
    x = torch.tensor([0.0, 1.0], dtype=dtype).repeat(rows)[:, None]
    out = torch.arange(rows, dtype=torch.int32)
    book = torch.cat([2 * out, 2 * out + 1]), out.repeat(2), torch.tensor([0, rows, 2 * rows])
    one, zero = torch.ones(rows, 1, dtype=dtype), torch.zeros(2, 1, dtype=dtype)
    found = relation_mean(x, one, key, zero, *book, "dot")[:, 0].tolist()
    expected = [math.exp(-v) / (1 + math.exp(-v)) for v in apart.tolist()]
    # below the normal numbers 0 is as good
    least = torch.finfo(dtype).tiny * 4
    eps = torch.finfo(dtype).eps
    for a, b in zip(found, expected, strict=True):
        assert abs(a - b) <= 4 * eps * b + least


def test_pairs_in_any_order_and_views(backend):
    (x, q, k, f), book = numbers("submanifold", 6, 3)
    order = torch.cat(
        [a + torch.randperm(z - a) for a, z in zip(book[2][:-1], book[2][1:], strict=True)]
    )
    mixed = book[0][order], book[1][order], book[2]
    views = [torch.stack([t, t], 2)[..., 1].requires_grad_() for t in (x, q, k, f)]
    plain = [t.clone().requires_grad_() for t in (x, q, k, f)]
    found, expected = (
        torch.autograd.grad(relation_mean(*t, *b, "dot").square().sum(), t)
        for t, b in ((views, mixed), (plain, book))
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **tolerance(torch.float64, "grad_weight", 27))


def test_shares_are_what_the_mean_takes(backend):
    (_, q, k, f), book = numbers("strided", 6, 3, spread=3.0)
    w = relation_shares(q, k, f, *book, "absdiff")
    m, taps = w.shape[:2]
    present = torch.zeros(m, taps, dtype=torch.bool)
    for t in range(taps):
        present[book[1][book[2][t] : book[2][t + 1]].long(), t] = True
    assert not w[~present].any() and w[present].min() > 0
    torch.testing.assert_close(w.sum(1), torch.ones(m, 3).double())
    moved = relation_shares(q, k, f + 5, *book, "absdiff")
    torch.testing.assert_close(moved, w)


def test_faces_of_sparse_tensors(backend):
    x = scene("random_sparse").tensor(4)
    level = x.topology.down(x.level, Geometry.make(2, 2))
    geometry = Geometry.make(3, 2, 1)
    sites = x.topology.levels[level].coords
    query = type(x).at(x.topology, level, torch.randn(len(sites), 2).double())
    given = query, torch.randn(len(x), 2).double(), torch.randn(27, 2).double(), geometry, "dot"
    y, w = related_mean(x, *given), related_shares(x, *given)
    rows = {tuple(c): n for n, c in enumerate(x.coords.tolist())}
    for o, (b, *at) in enumerate(sites.tolist()):
        total = torch.zeros(4).double()
        for t in range(27):
            tap = (t // 9 - 1, t // 3 % 3 - 1, t % 3 - 1)
            i = rows.get((b, *(2 * a + d for a, d in zip(at, tap, strict=True))))
            if i is not None:
                total += w[o, t].repeat_interleave(2) * x.features[i]
        torch.testing.assert_close(y.features[o], total)


def test_autocast_casts_features_and_keeps_logits(backend):
    (x, q, k, f), book = numbers("submanifold", 4, 2, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = relation_mean(x, q.bfloat16(), k, f, *book, "dot")
    assert y.dtype == torch.bfloat16
    expected = relation_mean(x, q.bfloat16().float(), k, f, *book, "dot")
    torch.testing.assert_close(y.float(), expected, **tolerance(torch.bfloat16, "forward"))


ROWS, SEGMENTS = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([0, 2])
X, Q, F = torch.ones(3, 4), torch.ones(3, 2), torch.ones(1, 2)
REFUSALS = {
    "features": ((X.int(), Q, Q, F, ROWS, ROWS), TypeError, "features: expected float32"),
    "groups": ((X, Q[:, :1].expand(3, 3), Q, F, ROWS, ROWS), ValueError, "query: expected shape"),
    "key": ((X, Q, Q[:, :1], F, ROWS, ROWS), ValueError, r"key: expected shape \[N, 2\]"),
    "rows": ((X, Q, Q[:2], F, ROWS, ROWS), ValueError, "key: expected 3 rows as features"),
    "prior": ((X, Q, Q, Q, ROWS, ROWS), ValueError, r"prior: expected shape \[1, 2\]"),
    "twice out": ((X, Q, Q, F, ROWS, ROWS * 0), ValueError, "found two pairs of a row"),
    "range": ((X, Q, Q, F, ROWS + 2, ROWS), (ValueError, IndexError), "in_rows: expected rows"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(backend, name):
    args, error, words = REFUSALS[name]
    with pytest.raises(error, match=words):
        relation_mean(*args, SEGMENTS, "dot")


def test_a_row_read_twice_in_a_tap_is_refused_by_the_gradient(backend):
    # the kernel's forward pass does not look at the neighbours' side
    x = X.clone().requires_grad_()
    with pytest.raises(ValueError, match="found two pairs of a row"):
        relation_mean(x, Q, Q, F, ROWS * 0, ROWS, SEGMENTS, "dot").sum().backward()


def test_refused_likeness():
    with pytest.raises(ValueError, match="likeness: expected one of 'sqdiff', 'absdiff', 'dot'"):
        relation_mean(X, Q, Q, F, ROWS, ROWS, SEGMENTS, "cosine")
