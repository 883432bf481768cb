"""Sweeps over the sample table: schema, fakes, compiled and eager agreement, derivatives."""

import pytest
import torch

from sparseconv.testing import samples, samples_between

ARITHMETIC = list(samples.arithmetic())
PLACEMENT = list(samples.placement())
INFERENCE = list(samples.inference())
SAMPLING = list(samples_between.sampling())
HAS_GRAD = [s for s in ARITHMETIC if "empty" not in s.label or s.op == "conv"]
HAS_ONE_GRAD = [s for s in SAMPLING if not s.op.endswith("_grad")]
AUTOGRAD = [s for s in ARITHMETIC if s.label == "submanifold"] + [
    s for s in HAS_ONE_GRAD if s.label.startswith("negative") or s.label == "line-1"
]
EVERY = ARITHMETIC + PLACEMENT + INFERENCE + SAMPLING


@pytest.mark.parametrize("sample", EVERY, ids=str)
def test_schema_and_fake(backend, sample):
    utilities = ("test_schema", "test_faketensor")
    torch.library.opcheck(sample.overload(), sample.args, test_utils=utilities)


@pytest.mark.parametrize("sample", AUTOGRAD, ids=str)
def test_autograd_registration_and_aot_dispatch(backend, sample):
    utilities = ("test_autograd_registration", "test_aot_dispatch_dynamic")
    torch.library.opcheck(sample.overload(), sample.with_grad(), test_utils=utilities)


@pytest.mark.parametrize("sample", HAS_GRAD, ids=str)
def test_first_and_second_derivative(backend, sample):
    args = sample.with_grad()

    def run(*given):
        out = sample.overload()(*given)
        return out[0] if isinstance(out, tuple) else out

    assert torch.autograd.gradcheck(run, args, fast_mode=False)
    assert torch.autograd.gradgradcheck(run, args, fast_mode=True)


@pytest.mark.parametrize("sample", HAS_ONE_GRAD, ids=str)
def test_first_derivative_and_refused_second(backend, sample):
    args = sample.with_grad()
    assert torch.autograd.gradcheck(sample.overload(), args, fast_mode=False)
    wanted = [a for a in args if isinstance(a, torch.Tensor) and a.requires_grad]
    made = sample.overload()(*args)
    loss = (made[0] if isinstance(made, tuple) else made).square().sum()
    first = torch.autograd.grad(loss, wanted, create_graph=True)
    with pytest.raises(RuntimeError, match="create_graph: expected one derivative"):
        torch.autograd.grad(first[0].sum(), wanted)


def test_every_op_has_samples():
    registered = {
        name.removeprefix("sparseconv::").split(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("sparseconv::")
    }
    assert registered == {s.op for s in EVERY}


@pytest.mark.parametrize("sample", ARITHMETIC + INFERENCE + SAMPLING, ids=str)
def test_meta_tensors_give_shapes_and_dtypes(sample):
    real = sample.overload()(*sample.args)
    moved = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in sample.args]
    meta = sample.overload()(*moved)
    for a, b in zip(
        real if isinstance(real, tuple) else (real,),
        meta if isinstance(meta, tuple) else (meta,),
        strict=True,
    ):
        assert b.is_meta and (a.shape, a.dtype) == (b.shape, b.dtype)


def test_a_tie_gives_the_whole_gradient_to_the_lowest_row(backend):
    x = torch.ones(3, 1, requires_grad=True)
    rows, out = torch.tensor([2, 1, 0]).int(), torch.zeros(3).int()
    torch.ops.sparseconv.pool_max(x, rows, out, 1)[0].sum().backward()
    assert x.grad.flatten().tolist() == [1.0, 0.0, 0.0]


def test_no_gradient_is_computed_that_nobody_wants(backend):
    sample = ARITHMETIC[0]
    x, w, *rest = sample.args
    w = w.clone().requires_grad_()
    sample.overload()(x, w, *rest).sum().backward()
    assert w.grad is not None and x.grad is None
