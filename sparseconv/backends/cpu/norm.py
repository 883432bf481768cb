"""Batch norm of rows: one pass for statistics, one for the result, two for the gradients."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import DTYPES, address, columns, rows
from sparseconv.backends.reference.conv import accumulator


def _columns(x: Tensor, **given: Tensor | None) -> list[Tensor | None]:
    return columns(x.shape[1], accumulator(x.dtype), given.items())


def _like(name: str, value: Tensor | None, x: Tensor) -> Tensor | None:
    """Return contiguous rows of the shape and dtype of `x`, None as given, or refuse."""
    if value is None:
        return None
    value = rows(name, value, x.dtype)
    if value.shape != x.shape:
        raise ValueError(complain(name, f"{list(x.shape)}", f"{list(value.shape)}"))
    return value


def norm_apply(
    x: Tensor,  # [N, C]
    mean: Tensor,  # [C]
    var: Tensor,  # [C]
    weight: Tensor | None,  # [C]
    bias: Tensor | None,  # [C]
    residual: Tensor | None,  # [N, C]
    eps: float,
    relu: bool,
) -> Tensor:  # [N, C]
    """Return `(x - mean) / sqrt(var + eps) * weight + bias + residual`, clipped below at 0."""
    x = rows("x", x)
    columns = _columns(x, mean=mean, var=var, weight=weight, bias=bias)
    residual = _like("residual", residual, x)
    y = x.new_empty(x.shape)
    _native.norm_apply(
        DTYPES[x.dtype],
        *x.shape,
        x.data_ptr(),
        *map(address, columns),
        eps,
        address(residual),
        relu,
        y.data_ptr(),
        torch.get_num_threads(),
    )
    return y


def batch_norm(
    x: Tensor,  # [N, C]
    weight: Tensor | None,  # [C]
    bias: Tensor | None,  # [C]
    residual: Tensor | None,  # [N, C]
    eps: float,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # [N, C], [C], [C]
    """Return `norm_apply` with the statistics of `x` itself, and these: 0 without rows."""
    width, wide = x.shape[-1:], accumulator(x.dtype)
    mean, var = x.new_empty(width, dtype=wide), x.new_empty(width, dtype=wide)
    y = x.new_empty(x.shape)
    end = mean, var, y, torch.get_num_threads()
    if _native.batch_norm_at_once(x, weight, bias, residual, eps, relu, *end):
        return y, mean, var
    x = rows("x", x)
    columns = _columns(x, weight=weight, bias=bias)
    residual = _like("residual", residual, x)
    _native.batch_norm(
        DTYPES[x.dtype],
        *x.shape,
        x.data_ptr(),
        *map(address, columns),
        eps,
        address(residual),
        relu,
        mean.data_ptr(),
        var.data_ptr(),
        y.data_ptr(),
        torch.get_num_threads(),
    )
    return y, mean, var


def norm_grad(
    grad: Tensor,  # [N, C]
    x: Tensor,  # [N, C]
    y: Tensor | None,  # [N, C]
    mean: Tensor,  # [C]
    var: Tensor,  # [C]
    weight: Tensor | None,  # [C]
    bias: Tensor | None,  # [C]
    eps: float,
    relu: bool,
    batch: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # [N, C], [C], [C], [N, C] or [0]
    """Return the gradients of x, weight, bias and, where its output `y` is given, the residual."""
    width, wide = x.shape[-1:], accumulator(x.dtype)
    to_x, to_residual = x.new_empty(x.shape), x.new_empty(0 if y is None else x.shape)
    to_weight, to_bias = x.new_empty(width, dtype=wide), x.new_empty(width, dtype=wide)
    made = to_x, to_weight, to_bias, to_residual
    kind = eps, relu, batch, *made, torch.get_num_threads()
    if _native.norm_grad_at_once(grad, x, y, mean, var, weight, bias, *kind):
        return made
    x = rows("x", x)
    grad, y = _like("grad", grad, x), _like("y", y, x)
    if y is not None and not relu:
        raise ValueError(complain("y", "None without a ReLU", f"{list(y.shape)}"))
    columns = _columns(x, mean=mean, var=var, weight=weight, bias=bias)
    _native.norm_grad(
        DTYPES[x.dtype],
        *x.shape,
        grad.data_ptr(),
        x.data_ptr(),
        address(y),
        *map(address, columns),
        eps,
        relu,
        batch,
        to_x.data_ptr(),
        to_weight.data_ptr(),
        to_bias.data_ptr(),
        0 if y is None else to_residual.data_ptr(),
        torch.get_num_threads(),
    )
    return made
