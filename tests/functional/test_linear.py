"""A linear map of every row, and what is kept of it between calls."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sparseconv.functional import linear as module
from sparseconv.functional.linear import linear


@pytest.fixture(autouse=True)
def nothing_kept():
    module._KEPT.clear()
    yield
    module._KEPT.clear()


def test_maps_rows():
    x, w, b = torch.randn(9, 4), torch.randn(6, 4), torch.randn(6)
    for _ in range(2):
        torch.testing.assert_close(linear(x, w, b), torch.nn.functional.linear(x, w, b))


def test_rows_are_made_once_a_count():
    w = torch.randn(6, 4)
    linear(torch.ones(9, 4), w, None)
    made = module._KEPT[9]
    linear(torch.ones(7, 4), w, None)
    linear(torch.ones(9, 4), w, None)
    assert module._KEPT[9] is made and set(module._KEPT) == {7, 9}


def test_few_counts_and_no_long_ones_are_kept(monkeypatch):
    monkeypatch.setattr(module, "_MOST_ROWS", 30)
    w = torch.randn(6, 4)
    for count in (*range(20, 40), 25):
        assert linear(torch.ones(count, 4), w, None).shape == (count, 6)
    assert len(module._KEPT) == module._MOST_KEPT and max(module._KEPT) <= 30


def test_what_inference_mode_made_serves_training():
    x, w = torch.randn(9, 4), torch.randn(6, 4, requires_grad=True)
    with torch.inference_mode():
        linear(x, w, None)
    linear(x, w, None).sum().backward()
    torch.testing.assert_close(w.grad, x.sum(0).expand(6, 4))


@pytest.mark.parametrize("first", ["fake", "real"])
def test_fake_and_real_tensors_do_not_mix(first):
    x, w = torch.randn(9, 4), torch.randn(6, 4)

    def fake():
        with FakeTensorMode() as mode:
            y = linear(mode.from_tensor(x), mode.from_tensor(w), None)
            assert y.shape == (9, 6)

    def real():
        torch.testing.assert_close(linear(x, w, None), x @ w.T)

    for run in (fake, real) if first == "fake" else (real, fake):
        run()
