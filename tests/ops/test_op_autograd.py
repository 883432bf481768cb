"""The short ways to gradients and kernels do what torch's own does."""

from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sparseconv.ops import _autograd, _direct

LIBRARY = torch.library.Library("sparseconv_test", "FRAGMENT")


def toy(name, direct):
    """Return an op `a b^2 + s`, whose gradients are made of itself."""
    LIBRARY.define(f"{name}(Tensor a, Tensor? b, float s) -> Tensor")

    def on_cpu(a, b, s):
        assert not a.is_neg(), "given a view"
        return a * b * b + s if b is not None else a + s

    LIBRARY.impl(name, on_cpu, "CPU")
    torch.library.register_fake(
        f"sparseconv_test::{name}", lambda a, b, s: torch.empty_like(a), lib=LIBRARY
    )
    op = getattr(torch.ops.sparseconv_test, name).default

    def setup(ctx, inputs, output):
        a, b, ctx.s = inputs
        ctx.save_for_backward(a, b)

    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        assert ctx.needs_input_grad[0] == a.requires_grad
        to_b = None if b is None else 2 * a * b * grad
        return op(grad, b, 0.0), to_b, None

    recorded = _autograd.register(LIBRARY, op, setup, backward, on_cpu, direct=direct)
    return op, _direct.direct(op, on_cpu, recorded)


def _call(op, rest, *args):
    return op(*args, *rest)


@pytest.fixture(scope="module")
def ops():
    if not _autograd._DIRECT:
        pytest.skip("this torch lacks what the short way needs")
    short_way, past_the_dispatcher = toy("short_way", True)
    return short_way, toy("torch_way", False)[0], past_the_dispatcher


@pytest.mark.parametrize("with_b", [True, False])
def test_all_ways_agree(ops, with_b):
    a = torch.randn(5, dtype=torch.float64, requires_grad=True)
    b = torch.randn(5, dtype=torch.float64, requires_grad=True) if with_b else None
    given = [a, b] if with_b else [a]
    found = []
    for op in ops:
        y = op(a, b, 1.5)
        first = torch.autograd.grad(y.square().sum(), given, create_graph=True)
        found.append([y, *first, *torch.autograd.grad(first[0].sum(), given)])
        rest = (1.5,) if with_b else (None, 1.5)
        assert torch.autograd.gradcheck(partial(_call, op, rest), given)
    for results in zip(*found, strict=True):
        for result in results[1:]:
            torch.testing.assert_close(results[0], result, rtol=0, atol=0)


def test_no_gradient_is_recorded_where_none_is_wanted(ops):
    for op in ops:
        a = torch.randn(5)
        assert not op(a, a, 0.0).requires_grad
        with torch.no_grad():
            assert not op(a.requires_grad_(), None, 0.0).requires_grad


class Seen(TorchDispatchMode):
    """Names of the ops that come by."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names = [*getattr(self, "names", []), func._opname]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("grad", [True, False])
def test_modes_see_the_op_and_views_are_resolved_before_it(ops, grad):
    """The short way to the kernel is for plain tensors that nobody looks at."""
    a = torch.randn(5, requires_grad=grad)
    for op in ops:
        with Seen() as seen:
            op(a, a, 0.0)
        assert seen.names[0] in ("short_way", "torch_way")
        # a view whose numbers are stored with the other sign
        minus = torch.randn(5, dtype=torch.complex64).conj().imag
        assert minus.is_neg()
        torch.testing.assert_close(op(minus, None, 0.0), minus.resolve_neg())
        meta = op(torch.empty(5, device="meta"), None, 0.0)
        assert meta.is_meta


def test_it_compiles_and_passes_opcheck(ops):
    a, b = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True)
    torch.library.opcheck(ops[0], (a, b, 0.5))
    for op in ops:
        a.grad = None
        compiled = torch.compile(
            lambda a, b, op=op: op(a, b, 0.5).sum(), fullgraph=True, backend="aot_eager"
        )
        compiled(a, b).backward()
        torch.testing.assert_close(a.grad, (b * b).detach())
