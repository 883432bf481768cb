"""Kernels that read the tensors themselves do what those do that are given addresses."""

import pytest
import torch

from sparseconv.ops import _direct
from sparseconv.testing import samples

_native = pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")
conv = pytest.importorskip("sparseconv.backends.cpu.conv")
conv_norm = pytest.importorskip("sparseconv.backends.cpu.conv_norm")
norm = pytest.importorskip("sparseconv.backends.cpu.norm")

OPS = {
    "conv": conv.conv,
    "conv_fused": conv.conv_fused,
    "conv_grad_weight": conv.conv_grad_weight,
    "conv_norm": conv_norm.conv_norm,
    "conv_norm_grad": conv_norm.conv_norm_grad,
    "batch_norm": norm.batch_norm,
    "norm_grad": norm.norm_grad,
}
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def with_functions():
    if not _native.use_exchange(True):
        pytest.skip("this torch has no such functions")
    yield
    _native.use_exchange(True)


@pytest.fixture
def ran(monkeypatch):
    """Names of the kernels that were called with tensors, and whether each took them."""
    seen = []

    def watched(name, kernel):
        def call(*args):
            done = kernel(*args)
            seen.append((name, done))
            return done

        return call

    for name in dir(_native):
        if name.endswith("_at_once"):
            monkeypatch.setattr(_native, name, watched(name, getattr(_native, name)))
    return seen


def flat(made):
    return made if isinstance(made, tuple) else (made,)


def every(dtype):
    found = {}
    for sample in (*samples.arithmetic(dtype), *samples.inference(dtype)):
        if sample.op in OPS:
            found[f"{sample.op} {sample.label}"] = sample.op, sample.args
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_both_ways_give_the_same_bits(ran, dtype):
    for name, (op, args) in every(dtype).items():
        if dtype in (torch.bfloat16, torch.float16) and "norm" in op:
            args = tuple(
                a.float() if torch.is_tensor(a) and a.dim() == 1 and a.is_floating_point() else a
                for a in args
            )
        if op == "conv_norm" and dtype not in (torch.float64, torch.float32):
            args = (*args[:2], args[2].to(dtype), *args[3:])
        ran.clear()
        _native.use_exchange(True)
        one = flat(OPS[op](*args))
        assert ran and all(done for _, done in ran), name
        _native.use_exchange(False)
        ran.clear()
        other = flat(OPS[op](*args))
        assert ran and not any(done for _, done in ran), name
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype and torch.equal(a, b), name


def changes(args):
    """Yield the arguments with one tensor after another laid out otherwise, or of another kind."""
    for at, given in enumerate(args):
        if not torch.is_tensor(given) or not given.numel():
            continue
        before, behind = args[:at], args[at + 1 :]
        apart = torch.stack([given, given], -1)[..., 0]
        yield "apart", (*before, apart, *behind)
        if given.dim() > 1:
            turned = given.transpose(0, 1).contiguous().transpose(0, 1)
            yield "turned", (*before, turned, *behind)


def test_operands_in_another_layout_are_copied_or_walked_over(ran):
    """An answer is never wrong for how its operands lie."""
    for name, (op, args) in every(torch.float32).items():
        if not name.endswith(("submanifold", "submanifold-norm", "submanifold-residual")):
            continue
        expected = flat(OPS[op](*args))
        for kind, changed in changes(args):
            for a, b in zip(flat(OPS[op](*changed)), expected, strict=True):
                assert torch.equal(a, b), f"{name}: {kind}"


def test_rows_that_lie_apart_do_not_make_a_convolution_run_twice(ran):
    """A residual, or a gradient such as that of a concatenation, is copied first."""
    samples_of = every(torch.float32)
    for name, at in (
        ("conv_norm submanifold-residual", 12),
        ("conv_norm_grad submanifold-1", 0),
    ):
        op, args = samples_of[name]
        apart = torch.stack([args[at], args[at]], -1)[..., 0]
        expected = flat(OPS[op](*args))
        ran.clear()
        found = flat(OPS[op](*args[:at], apart, *args[at + 1 :]))
        assert ran == [(f"{op}_at_once", True)], name
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)), name


def test_operands_that_do_not_fit_are_refused():
    """One tensor after another of another dtype, device or dimension, or a column short."""
    refused = 0
    for name, (op, args) in every(torch.float32).items():
        if not name.endswith(
            ("submanifold-norm", "submanifold-residual", "grad_weight submanifold")
        ):
            continue
        for at, given in enumerate(args):
            if not torch.is_tensor(given):
                continue
            wrongs = [given.to(torch.int16), given.to("meta"), given[None]]
            # the gradient of a weight takes its shape from them
            wrongs += [] if op == "conv_grad_weight" else [given[..., :-1]]
            for wrong in wrongs:
                with pytest.raises((TypeError, ValueError)):
                    OPS[op](*args[:at], wrong, *args[at + 1 :])
                refused += 1
    assert refused > 60


@pytest.mark.parametrize("given", [(1, 2.0, True, None), ([1, 2], [])], ids=["numbers", "lists"])
def test_numbers_are_plain(given):
    assert _native.plain(given) == _direct._plain_in_python(given) == _direct._PLAIN


class Marked(torch.Tensor):
    pass


PLAIN = torch.ones(3)
TENSORS = {
    "plain": (PLAIN, _direct._PLAIN),
    "int": (torch.arange(3), _direct._PLAIN),
    "parameter": (torch.nn.Parameter(torch.ones(3)), _direct._WANTED),
    "frozen": (torch.nn.Parameter(torch.ones(3), requires_grad=False), _direct._PLAIN),
    "of a graph": (torch.nn.Parameter(torch.ones(3)) * 2, _direct._WANTED),
    "of a subclass": (torch.ones(3).as_subclass(Marked), _direct._NOT),
    "a negative view": (torch._neg_view(torch.ones(3)), _direct._NOT),
    "meta": (torch.ones(3, device="meta"), _direct._NOT),
    "tensors in a list": ([PLAIN], _direct._NOT),
    "a word": ("word", _direct._NOT),
}


@pytest.mark.parametrize("name", TENSORS)
def test_what_is_plain(name):
    given, expected = TENSORS[name]
    assert _native.plain((PLAIN, given, 1)) == expected
    assert _direct._plain_in_python((PLAIN, given, 1)) == expected


@pytest.mark.parametrize("given", [torch.ones(3).to_sparse(), torch.ones(3, dtype=torch.cfloat)])
def test_what_no_kernel_of_ours_reads_is_not_plain(given):
    assert _native.plain((given,)) == _direct._NOT


def test_without_functions_python_tells():
    _native.use_exchange(False)
    assert _native.plain((PLAIN,)) == -1
    assert _direct._plain((PLAIN,)) == _direct._PLAIN
