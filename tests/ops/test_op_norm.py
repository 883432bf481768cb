"""Batch norm, fused with sum and ReLU: torch's numbers, in every instruction set and dtype."""

import pytest
import torch
from torch.nn import functional as dense

import sparseconv as sc
from sparseconv.ops.norm import batch_norm, norm_apply
from sparseconv.testing.tolerances import tolerance

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# rows and channels: below, at and beyond vectors, periods, blocks and tasks
SIZES = [(2, 1), (3, 5), (40, 17), (1500, 24), (700, 64), (5000, 96), (300, 136), (70, 515)]
EPS = 1e-5


def oracle(x, weight, bias, residual, relu, grad):
    """Return y and the gradients by torch's batch norm, sum and ReLU in float64."""
    leaves = [t if t is None else t.double().requires_grad_() for t in (x, weight, bias, residual)]
    y = dense.batch_norm(leaves[0], None, None, leaves[1], leaves[2], True, 0.0, EPS)
    y = y if residual is None else y + leaves[3]
    y = y.relu() if relu else y
    wanted = [t for t in leaves if t is not None]
    return y.detach(), torch.autograd.grad(y, wanted, grad.double())


def close(found, expected, dtype, quantity, terms=1):
    assert found.dtype == dtype
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(
        found.double() / scale, expected / scale, **tolerance(dtype, quantity, terms)
    )


@pytest.mark.parametrize("added", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward_and_gradients_are_torchs(isa, dtype, relu, added):
    for n, channels in SIZES:
        wide = torch.promote_types(dtype, torch.float32)
        # far from zero beside their spread, as features without a norm before them may be
        x = (torch.randn(n, channels) * 2 + 5).to(dtype).requires_grad_()
        weight = (torch.rand(channels) + 0.5).to(wide).requires_grad_()
        bias = torch.randn(channels).to(wide).requires_grad_()
        residual = torch.randn(n, channels).to(dtype).requires_grad_() if added else None
        grad = torch.randn(n, channels).to(dtype)
        given = [t if t is None else t.detach() for t in (x, weight, bias, residual)]
        expected, grads = oracle(*given, relu, grad)
        y, mean, var = batch_norm(x, weight, bias, residual, eps=EPS, relu=relu)
        close(y, expected, dtype, "forward")
        torch.testing.assert_close(
            mean.double(), given[0].double().mean(0), **tolerance(torch.float32, "kernel")
        )
        torch.testing.assert_close(
            var.double(),
            given[0].double().var(0, correction=0),
            **tolerance(torch.float32, "traced"),
        )
        if relu:
            # numbers within rounding of 0 may fall on either side: their gradient is not compared
            grad = torch.where((expected.abs() < 0.02) & (expected != 0), 0, grad)
            before = expected == 0
            near = before & (oracle(*given, False, grad)[0] > -0.02)
            grad = torch.where(near, 0, grad).to(dtype)
            grads = oracle(*given, relu, grad)[1]
        leaves = [t for t in (x, weight, bias, residual) if t is not None]
        found = torch.autograd.grad(y, leaves, grad)
        for leaf, a, e in zip(leaves, found, grads, strict=True):
            quantity = "grad_features" if leaf.dim() == 2 else "grad_weight"
            close(a, e, leaf.dtype if leaf.dim() == 2 else wide, quantity, n)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_kernels_agree_with_the_reference(isa, dtype):
    for n, channels in [(0, 3), (1, 3), *SIZES]:
        wide = torch.promote_types(dtype, torch.float32)
        x, other = (torch.randn(n, channels).to(dtype) for _ in range(2))
        mean, weight, bias = (torch.randn(channels).to(wide) for _ in range(3))
        var = torch.rand(channels).to(wide) + 0.1
        for residual in (None, other):
            for relu in (False, True):
                args = (x, mean, var, weight, bias, residual)
                found = norm_apply(*args, eps=EPS, relu=relu)
                with sc.use_backend("reference"):
                    expected = norm_apply(*args, eps=EPS, relu=relu)
                close(found, expected.double(), dtype, "forward") if n else None
                assert found.shape == expected.shape


def test_gradient_is_zero_exactly_where_the_output_is(isa):
    x = torch.randn(4000, 48)
    # exactly at 0 before the ReLU, too
    x[::7] = 0.0
    mean, var = torch.zeros(48), torch.ones(48)
    x.requires_grad_()
    y = norm_apply(x, mean, var, None, None, relu=True)
    y.sum().backward()
    assert torch.equal(x.grad == 0, y == 0)


def test_nan_passes_the_relu_and_reaches_its_own_column_alone(backend):
    x = torch.randn(300, 20)
    x[11, 3] = torch.nan
    y, _, _ = batch_norm(x, None, None, None, relu=True)
    columns = y.isnan().any(0)
    assert columns[3] and columns.sum() == 1
    assert norm_apply(x, torch.zeros(20), torch.ones(20), None, None, relu=True)[11, 3].isnan()


def test_threads_change_no_bit():
    x, grad = torch.randn(40_000, 24), torch.randn(40_000, 24)
    residual, weight, bias = torch.randn(40_000, 24), torch.rand(24), torch.rand(24)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        leaves = [t.clone().requires_grad_() for t in (x, weight, bias, residual)]
        y, mean, var = batch_norm(*leaves, relu=True)
        results.append([y, mean, var, *torch.autograd.grad(y, leaves, grad)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_variance_of_numbers_far_from_zero(backend):
    # in float32 a sum of squares would lose all of it
    x = 1e4 + torch.randn(20_000, 5)
    _, _, var = batch_norm(x, None, None)
    torch.testing.assert_close(
        var.double(), x.double().var(0, correction=0), **tolerance(torch.float32, "formula")
    )
    _, mean, var = batch_norm(torch.full((999, 4), 3.25), None, None)
    assert (var == 0).all() and (mean == 3.25).all()


@pytest.mark.parametrize("residual", [False, True])
def test_all_gradients_twice(backend, residual):
    leaves = [
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((7, 3), (3,), (3,), (7, 3))
    ]

    def train(x, weight, bias, other):
        return batch_norm(x, weight, bias, other if residual else None, eps=1e-2, relu=True)

    def given(x, weight, bias, other):
        mean, var = bias * 0.3, weight.square() + 0.5
        return norm_apply(x, mean, var, weight, bias, other if residual else None, relu=True)

    def grads(x, weight, bias, other):
        op = torch.ops.sparseconv.norm_grad
        y = other if residual else None
        made = op(x.sin(), x, y, bias, weight.square() + 0.5, weight, bias, 1e-2, True, True)
        return made if residual else made[:3]

    for run in (train, given, grads):
        assert torch.autograd.gradcheck(run, leaves)
        assert torch.autograd.gradgradcheck(run, leaves)


def test_what_is_saved():
    x, residual = torch.randn(50, 8, requires_grad=True), torch.randn(50, 8)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        batch_norm(x, torch.ones(8), torch.zeros(8), relu=True)
    tables = [t for t in saved if t.dim() == 2]
    assert len(tables) == 1 and tables[0].data_ptr() == x.data_ptr()
    saved.clear()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y, _, _ = batch_norm(x, torch.ones(8), torch.zeros(8), residual, relu=True)
    tables = {t.data_ptr() for t in saved if t.dim() == 2}
    assert tables == {x.data_ptr(), y.data_ptr()}


REFUSALS = {
    "x": (lambda x, c: batch_norm(x.int(), c, c), TypeError, "x: expected float32"),
    "weight dtype": (
        lambda x, c: batch_norm(x, c.double(), c),
        TypeError,
        r"weight: expected float32 on cpu, found float64.*\.to\(\)",
    ),
    "bias length": (
        lambda x, c: batch_norm(x, c, c[:2]),
        ValueError,
        r"bias: expected shape \[3\]",
    ),
    "residual rows": (
        lambda x, c: norm_apply(x, c, c, c, c, x[:2]),
        ValueError,
        "residual: expected 4 rows",
    ),
    "residual channels": (
        lambda x, c: batch_norm(x, c, c, x[:, :2]),
        ValueError,
        r"residual: expected shape \[N, 3\]",
    ),
    "residual dtype": (
        lambda x, c: batch_norm(x, c, c, x.double()),
        TypeError,
        "residual: expected float32",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name):
    call, error, words = REFUSALS[name]
    with pytest.raises(error, match=words):
        call(torch.ones(4, 3), torch.ones(3))


def test_one_graph_of_any_size_compiled_and_exported():
    torch._dynamo.reset()

    def run(x, weight, bias):
        y, _, _ = batch_norm(x, weight, bias, x, relu=True)
        return norm_apply(y, bias, weight, None, None)

    compiled = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
    weight, bias = torch.rand(6) + 1, torch.rand(6)
    for n in (5, 300):
        x = torch.randn(n, 6)
        torch.testing.assert_close(compiled(x, weight, bias), run(x, weight, bias))

    class Net(torch.nn.Module):
        def forward(self, x, weight, bias):
            return run(x, weight, bias)

    rows = torch.export.Dim("rows")
    program = torch.export.export(
        Net(), (torch.randn(9, 6), weight, bias), dynamic_shapes=({0: rows}, None, None)
    )
    x = torch.randn(33, 6)
    torch.testing.assert_close(program.module()(x, weight, bias), run(x, weight, bias))
