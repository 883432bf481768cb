"""Autocast: products in its dtype, sums in float32, gradients in the parameters' dtype."""

import pytest
import torch

from sparseconv.ops.conv import conv
from sparseconv.testing.samples import pairs_of
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
