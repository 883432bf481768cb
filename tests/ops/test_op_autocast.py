"""Autocast: products in its dtype, sums in float32, gradients in the parameters' dtype."""

import pytest
import torch

from sparseconv.ops.conv import conv
from sparseconv.testing.sample import pairs_of
from sparseconv.testing.tolerances import tolerance


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_conv_under_autocast(backend, dtype):
    in_rows, out_rows, segments, n, m = pairs_of("random_sparse", 3, 1, 1)
    x = torch.randn(n, 8, requires_grad=True)
    w = torch.randn(27, 8, 8, requires_grad=True)
    b = torch.randn(8, requires_grad=True)
    with torch.autocast("cpu", dtype=dtype):
        y = conv(x, w, b, in_rows, out_rows, segments, m)
    assert y.dtype == dtype
    y.float().square().sum().backward()
    assert {t.grad.dtype for t in (x, w, b)} == {torch.float32}
    rounded = [t.detach().to(dtype) for t in (x, w, b)]
    assert torch.equal(y, conv(*rounded, in_rows, out_rows, segments, m))
    full = conv(x, w, b, in_rows, out_rows, segments, m)
    close = tolerance(dtype, "forward", 27 * 8)
    torch.testing.assert_close(y.float(), full, rtol=4 * close["rtol"], atol=close["atol"])


def test_autocast_leaves_float64_alone(backend):
    in_rows, out_rows, segments, n, m = pairs_of("random_sparse", 3, 1, 1)
    x, w = torch.randn(n, 4).double(), torch.randn(27, 4, 4).double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv(x, w, None, in_rows, out_rows, segments, m).dtype == torch.float64


def test_autocast_works_in_eval_and_without_grad(backend):
    in_rows, out_rows, segments, n, m = pairs_of("random_sparse", 3, 1, 1)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        y = conv(torch.randn(n, 4), torch.randn(27, 4, 4), None, in_rows, out_rows, segments, m)
    assert y.dtype == torch.bfloat16


def test_disabled_autocast_inside_is_obeyed(backend):
    in_rows, out_rows, segments, n, m = pairs_of("one_voxel", 3, 1, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.autocast("cpu", enabled=False):
        y = conv(torch.randn(n, 4), torch.randn(27, 4, 4), None, in_rows, out_rows, segments, m)
    assert y.dtype == torch.float32


def test_the_gradient_of_a_float32_weight_is_not_rounded(backend):
    in_rows, out_rows, segments, n, m = pairs_of("random_sparse", 3, 1, 1)
    x, grad = torch.randn(n, 8).bfloat16(), torch.randn(m, 8).bfloat16()
    w = torch.randn(27, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x, w, None, in_rows, out_rows, segments, m)
    y.backward(grad)
    parts = zip(segments[:-1].tolist(), segments[1:].tolist(), strict=True)
    sums = [x.double()[in_rows[a:b]].T @ grad.double()[out_rows[a:b]] for a, b in parts]
    torch.testing.assert_close(
        w.grad.double(), torch.stack(sums), **tolerance(torch.float32, "kernel")
    )


def test_a_float32_weight_has_second_derivatives(backend):
    in_rows, out_rows, segments, n, m = pairs_of("line", 3, 1, 1)
    x = torch.randn(n, 4).bfloat16().requires_grad_()
    w = torch.randn(27, 4, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x, w, None, in_rows, out_rows, segments, m)
    to_x, to_w = torch.autograd.grad(y.float().square().sum(), (x, w), create_graph=True)
    (to_x.float().sum() + to_w.sum()).backward()
    assert x.grad.dtype == torch.bfloat16 and w.grad.dtype == torch.float32
    double = [t.detach().double().requires_grad_() for t in (x, w.bfloat16())]
    y = conv(*double, None, in_rows, out_rows, segments, m)
    to_x, to_w = torch.autograd.grad(y.square().sum(), double, create_graph=True)
    expected = torch.autograd.grad(to_x.sum() + to_w.sum(), double)
    for found, wanted in zip((x.grad, w.grad), expected, strict=True):
        scale = wanted.abs().max()
        torch.testing.assert_close(found.double() / scale, wanted / scale, rtol=0, atol=0.03)


def test_a_float32_weight_is_refused_without_autocast(backend):
    in_rows, out_rows, segments, n, m = pairs_of("one_voxel", 3, 1, 1)
    with pytest.raises(TypeError, match="weight: expected bfloat16"):
        conv(
            torch.randn(n, 4).bfloat16(),
            torch.randn(27, 4, 4),
            None,
            in_rows,
            out_rows,
            segments,
            m,
        )
