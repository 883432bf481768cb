"""Reading between sites: for now the plain torch functions, under the compiled module's names."""

from collections.abc import Callable
from functools import wraps

import torch

from sparseconv.backends.reference import sample as reference


def _as_it_is(run: Callable) -> Callable:
    """Keep autocast from changing dtypes inside."""

    @wraps(run)
    def plain(*args):
        with torch.autocast("cpu", enabled=False):
            return run(*args)

    return plain


sample_sum = _as_it_is(reference.sample_sum)
sample_sum_grad = _as_it_is(reference.sample_sum_grad)
deform_conv = _as_it_is(reference.deform_conv)
deform_conv_grad = _as_it_is(reference.deform_conv_grad)
