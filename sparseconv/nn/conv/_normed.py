"""A layer norm and what follows it, some rows at a time, so that nothing between them stays."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as dense

ACTIVATIONS = {"gelu": dense.gelu, "relu": dense.relu, "silu": dense.silu}
# numbers of a piece, which stay in a cache between passes
PIECE = 1 << 17

_slopes = {
    "gelu": lambda grad, x: torch.ops.aten.gelu_backward(grad, x),
    "relu": lambda grad, x: torch.ops.aten.threshold_backward(grad, x, 0),
    "silu": lambda grad, x: torch.ops.aten.silu_backward(grad, x),
}


class LayerNorm(nn.LayerNorm):
    """Torch's norm of rows, eps 1e-6.

    That stands in the code: a traced graph takes an attribute for a number that may change.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every row."""
        return _norm(x, self.weight, self.bias)


def _norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return dense.layer_norm(x, x.shape[1:], weight, bias, 1e-6)


def _pieces(x: Tensor) -> int:
    return max(PIECE // max(x.shape[1], 1), 1)


class _Normed(torch.autograd.Function):
    """Keeps the input alone, and makes the norm again for its gradients."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, act: str) -> Tensor:
        y, step = torch.empty_like(x), _pieces(x)
        for out, piece in zip(y.split(step), x.split(step), strict=True):
            out.copy_(ACTIVATIONS[act](_norm(piece, weight, bias)))
        return y

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        *tensors, ctx.act = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, bias = ctx.saved_tensors
        shape, step = x.shape[1:], _pieces(x)
        # nobody else has this gradient: what it is of does not leave the layer
        made = grad if grad.is_contiguous() else torch.empty_like(x)
        sums = [torch.zeros_like(p) for p in (weight, bias)]
        for to, g, piece in zip(made.split(step), grad.split(step), x.split(step), strict=True):
            y, *moments = torch.native_layer_norm(piece, shape, weight, bias, 1e-6)
            g = _slopes[ctx.act](g, y)
            given = g, piece, shape, *moments, weight, bias, [True, True, True]
            parts = torch.ops.aten.native_layer_norm_backward(*given)
            to.copy_(parts[0])
            for total, part in zip(sums, parts[1:], strict=True):
                total += part
        return made, *sums, None


def normed(
    x: Tensor,  # [N, C]
    weight: Tensor,  # [C]
    bias: Tensor,  # [C]
    act: str,
) -> Tensor:  # [N, C]
    """Return `act(layer_norm(x))`, eps 1e-6; a traced graph decides for itself what to keep.

    The gradient of the result is overwritten in the backward pass: only for results that do not
    leave a layer, so that no gradient of a caller's comes here.

    Args:
        x: float [N, C].
        weight: [C].
        bias: [C].
        act: `"gelu"`, `"relu"` or `"silu"`.
    """
    whole = torch.compiler.is_compiling() or torch.is_autocast_enabled(x.device.type)
    if whole or not torch.is_grad_enabled() or x.device.type != "cpu":
        return ACTIVATIONS[act](_norm(x, weight, bias))
    return _Normed.apply(x, weight, bias, act)
