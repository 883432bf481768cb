"""Every instruction set of this machine gives the oracle's numbers, through torch's ops."""

import pytest
import torch

from sparseconv.ops.aggregate import aggregate, pair_dot
from sparseconv.ops.conv import conv, conv_grad_weight
from sparseconv.ops.pool import pool_max
from sparseconv.testing import oracle, samples, samples_between
from sparseconv.testing.sample import pairs_of
from sparseconv.testing.tolerances import tolerance

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# widths about the lengths of vectors and tiles: below, at, above, and odd
WIDTHS = [(1, 1), (3, 5), (7, 8), (16, 16), (17, 33), (31, 64), (64, 31), (65, 1), (1, 70)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("channels", "width"), WIDTHS)
def test_convolution_and_its_gradients(isa, dtype, channels, width):
    in_rows, out_rows, segments, n, m = pairs_of("random_sparse", (3, 3, 2), 1, 1)
    taps = len(segments) - 1
    x = torch.randn(n, channels, dtype=torch.float64).to(dtype).requires_grad_()
    w = torch.randn(taps, channels, width, dtype=torch.float64).to(dtype).requires_grad_()
    b = torch.randn(width, dtype=torch.float64).to(dtype).requires_grad_()
    y = conv(x, w, b, in_rows, out_rows, segments, m)
    g = torch.randn(m, width, dtype=torch.float64).to(dtype)
    y.backward(g)
    found = (y, x.grad, w.grad)
    # gather, multiply, scatter with whole matrices
    wide = [t.detach().double() for t in (x, w, b, g)]
    expected = [wide[2].expand(m, width).clone(), torch.zeros_like(wide[0]), []]
    for t in range(taps):
        i, o = (r[segments[t] : segments[t + 1]].long() for r in (in_rows, out_rows))
        expected[0].index_add_(0, o, wide[0][i] @ wide[1][t])
        expected[1].index_add_(0, i, wide[3][o] @ wide[1][t].T)
        expected[2].append(wide[0][i].T @ wide[3][o])
    expected[2] = torch.stack(expected[2])
    terms = (taps * channels, taps * width, n)
    names = ("forward", "grad_features", "grad_weight")
    for a, e, count, name in zip(found, expected, terms, names, strict=True):
        torch.testing.assert_close(a.double(), e, **tolerance(dtype, name, count), msg=name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 8, 17, 64, 100])
def test_sums_dots_and_maxima(isa, dtype, channels):
    in_rows, out_rows, _, n, m = pairs_of("random_sparse", 3, 2, 1)
    x = torch.randn(n, channels, dtype=torch.float64).to(dtype)
    g = torch.randn(m, channels, dtype=torch.float64).to(dtype)
    w = torch.randn(len(in_rows), dtype=torch.float64).to(dtype)
    i, o = in_rows.long(), out_rows.long()
    total = torch.zeros(m, channels, dtype=torch.float64)
    total.index_add_(0, o, x.double()[i] * w.double()[:, None])
    y = aggregate(x, in_rows, out_rows, w, m)
    torch.testing.assert_close(y.double(), total, **tolerance(dtype, "forward", 27))
    dots = (x.double()[i] * g.double()[o]).sum(1)
    found = pair_dot(x, g, in_rows, out_rows).double()
    torch.testing.assert_close(found, dots, **tolerance(dtype, "forward", channels))
    pairs = zip(in_rows.tolist(), out_rows.tolist(), [0] * len(in_rows), strict=True)
    best, _ = pool_max(x, in_rows, out_rows, m)
    assert torch.equal(best, oracle.pool(x, pairs, m, "max"))


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_groups(isa, groups):
    in_rows, out_rows, segments, n, m = pairs_of("random_sparse", 3, 1, 1)
    x, g = torch.randn(n, 12), torch.randn(m, 18)
    w = torch.randn(27, 12 // groups, 18)
    y = conv(x, w, None, in_rows, out_rows, segments, m, groups)
    grad = conv_grad_weight(x, g, in_rows, out_rows, segments, groups)
    for k in range(groups):
        of = slice(k * 12 // groups, (k + 1) * 12 // groups)
        to = slice(k * 18 // groups, (k + 1) * 18 // groups)
        part = conv(x[:, of], w[:, :, to], None, in_rows, out_rows, segments, m)
        close = tolerance(torch.float32, "forward", 27 * 12 // groups)
        torch.testing.assert_close(y[:, to], part, **close)
        part = conv_grad_weight(x[:, of], g[:, to], in_rows, out_rows, segments)
        torch.testing.assert_close(grad[:, :, to], part, **tolerance(x.dtype, "grad_weight", n))


@pytest.mark.parametrize(
    "sample",
    [*samples.arithmetic(torch.float32), *samples_between.sampling(torch.float32)],
    ids=str,
)
def test_samples_agree_with_the_reference(isa, sample):
    import sparseconv as sc

    found = sample.overload()(*sample.args)
    with sc.use_backend("reference"):
        expected = sample.overload()(*sample.args)
    torch.testing.assert_close(found, expected, **tolerance(torch.float32, "forward", 108))
