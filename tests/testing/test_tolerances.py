import pytest
import torch

from sparseconv.testing.tolerances import TABLE, tolerance


def test_tolerance_grows_with_the_root_of_the_terms():
    one, many = (tolerance(torch.float32, "forward", n)["atol"] for n in (1, 100))
    assert many == pytest.approx(10 * one)


def test_every_dtype_has_every_quantity():
    dtypes = {dtype for dtype, _ in TABLE}
    whole = {"forward", "grad_features", "grad_weight", "kernel", "choice"}
    some = {"net", "grad_net", "traced", "logits", "loss", "formula"}
    assert {quantity for _, quantity in TABLE} == whole | some
    assert {(d, q) for d in dtypes for q in whole} <= set(TABLE)
    assert dtypes == {torch.float64, torch.float32, torch.bfloat16, torch.float16}


def test_a_choice_is_exact():
    assert tolerance(torch.float32, "choice", 10**6) == {"rtol": 0, "atol": 0}


def test_unknown_quantity_is_refused():
    with pytest.raises(KeyError, match="TABLE"):
        tolerance(torch.float32, "beauty")
