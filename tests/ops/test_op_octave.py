"""Convolutions of two resolutions in one op: derivatives, threads, dtypes, refusals."""

import pytest
import torch

from sparseconv.ops.octave import octave_conv
from sparseconv.ops.row_list import pairs_by_row
from sparseconv.testing import samples
from sparseconv.testing.tolerances import tolerance

SAMPLES = {s.label: s for s in samples.arithmetic() if s.op == "octave_conv"}


@pytest.mark.parametrize("label", SAMPLES)
def test_all_results_have_two_derivatives(backend, label):
    sample = SAMPLES[label]
    args = sample.with_grad()
    assert torch.autograd.gradcheck(sample.overload(), args, fast_mode=True)
    assert torch.autograd.gradgradcheck(sample.overload(), args, fast_mode=True)


@pytest.mark.parametrize("label", ["submanifold", "submanifold-low-adjoint"])
def test_gradients_once_are_those_that_can_be_taken_again(backend, label):
    sample = SAMPLES[label]
    args = sample.with_grad()
    wanted = [a for a in args if isinstance(a, torch.Tensor) and a.requires_grad]
    made = [y for y in sample.overload()(*args)[:2] if y.numel()]
    along = [torch.randn_like(y) for y in made]
    again = torch.autograd.grad(made, wanted, along, create_graph=True)
    once = torch.autograd.grad(made, wanted, along, retain_graph=True)
    for a, b in zip(once, again, strict=True):
        torch.testing.assert_close(a, b)
    # of some inputs alone
    for one in (1, -1):
        found = torch.autograd.grad(made, wanted[one], along, retain_graph=True)[0]
        torch.testing.assert_close(found, again[one])


def test_weights_alone(backend):
    sample = SAMPLES["submanifold"]
    args = list(sample.with_grad())
    loss = sample.overload()(*args)[0].square().sum()
    expected = torch.autograd.grad(loss, args[2:6])
    args[0] = args[0].detach()
    loss = sample.overload()(*args)[0].square().sum()
    for a, b in zip(torch.autograd.grad(loss, args[2:6]), expected, strict=True):
        torch.testing.assert_close(a, b)


def given(n=900, m=300, channels=(40, 24), widths=(32, 20), taps=3, dtype=torch.float32):
    """Pairs of random sites that meet themselves, and parents in no order."""
    rng = torch.Generator().manual_seed(0)

    def book(rows):
        left = torch.randint(rows, (3 * rows,), generator=rng, dtype=torch.int32)
        right = torch.randint(rows, (3 * rows,), generator=rng, dtype=torch.int32)
        own = torch.arange(rows, dtype=torch.int32)
        ends = torch.tensor([0, 3 * rows, 4 * rows, 7 * rows])
        return torch.cat([left, own, right]), torch.cat([right, own, left]), ends

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype).requires_grad_()

    parents = torch.cat([torch.arange(m), torch.randint(m, (n - m,), generator=rng)])
    parents = parents[torch.randperm(n, generator=rng)].int()
    counts = torch.bincount(parents, minlength=m)
    rows, ends = torch.arange(n, dtype=torch.int32), torch.tensor([0, n])
    weights = tuple(normal(taps, c, d) for c in channels for d in widths)
    where = book(n), book(m), pairs_by_row(rows, parents, ends, m), parents, counts
    return normal(n, sum(channels)), weights, normal(sum(widths)), where


def test_no_number_of_threads_changes_a_bit():
    x, weights, bias, where = given()
    found = []
    for threads in (1, 2, 5):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            y = octave_conv(x, None, weights, bias, *where)[0]
            grads = torch.autograd.grad(y.square().sum(), [x, *weights])
        finally:
            torch.set_num_threads(before)
        found.append([y, *grads])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_wide_rows_agree_with_the_reference(isa, dtype):
    import sparseconv as sc

    x, weights, bias, where = given(n=300, m=90, dtype=dtype)
    made = []
    for name in ("auto", "reference"):
        with sc.use_backend(name):
            y = octave_conv(x, None, weights, bias, *where)[0]
            split = x[:, :40], x[:90, 40:]
            high, low = octave_conv(*split, weights, bias, *where)
            total = y.float().sin().sum() + high.float().sin().sum() + low.float().sin().sum()
            made.append([y, high, low, *torch.autograd.grad(total, [x, *weights, bias])])
    for a, b in zip(*made, strict=True):
        # sines of sums that were rounded otherwise
        close = tolerance(dtype, "forward", 3000)
        torch.testing.assert_close(a, b, rtol=close["rtol"] * 4, atol=close["atol"] * 40)


def test_autocast():
    x, weights, bias, where = given()
    with torch.autocast("cpu", torch.bfloat16):
        y = octave_conv(x, None, weights, bias, *where)[0]
    assert y.dtype == torch.bfloat16
    grads = torch.autograd.grad(y.float().sum(), [x, *weights, bias])
    assert {g.dtype for g in grads} == {torch.float32}
    # gradients of weights were not rounded on the way
    assert any((g != g.bfloat16()).any() for g in grads[1:5])


def test_refusals():
    x, weights, bias, where = given()
    book, below, children, parents, counts = where
    hh, hl, lh, ll = weights

    def refused(words, kind=ValueError, x=x, low=None, weights=weights, bias=bias, where=where):
        with pytest.raises(kind, match=words):
            octave_conv(x, low, weights, bias, *where)

    refused("features: expected 64 channels", x=x[:, 1:])
    refused("features: expected 40 channels", low=x[:300, 40:])
    refused(r"low: expected \[M, 24\]", x=x[:, :40], low=x[:300, 41:])
    refused("low: expected float32", TypeError, x=x[:, :40], low=x[:300, 40:].double())
    refused("weights: expected 32 high and 20 low", weights=(hh, hl, lh, ll[..., 1:]))
    refused("segments: expected 3 entries", weights=(hh[:2], hl, lh, ll))
    refused(r"bias: expected \[52\]", bias=bias[1:])
    refused("an int32 tensor", TypeError, where=(book, below, children, parents.long(), counts))
    far = parents.clone()
    far[0] = 300
    refused("parents: expected rows below 300", where=(book, below, children, far, counts))
    refused("parents: expected 900 rows", where=(book, below, children, far[1:], counts))
    few = pairs_by_row(parents[:600], parents[:600], torch.tensor([0, 600]), 600)
    refused("children: expected 900 pairs of 300 rows", where=(book, below, few, parents, counts))
