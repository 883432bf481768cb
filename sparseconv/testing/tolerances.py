"""How far a result may lie from the oracle: one table, one reason a line.

The unit of every number is the rounding error of one operation, `eps`, times the size such a sum
of `terms` normal products has, `sqrt(terms)`. For 16-bit dtypes sums are kept in float32, so
that the error is that of rounding the result once, whatever the number of terms.
"""

from __future__ import annotations

import math

import torch

from sparseconv._errors import complain

# (dtype, quantity): roundings allowed
TABLE: dict[tuple[torch.dtype, str], float] = {
    # a sum in another order drifts like a random walk of its partial sums: a few eps * sqrt(terms)
    (torch.float64, "forward"): 16,
    (torch.float32, "forward"): 16,
    # gradients are sums of the same kind over taps and the other side's channels
    (torch.float64, "grad_features"): 16,
    (torch.float32, "grad_features"): 16,
    # here the sum runs over pairs, thousands of them: partial sums grow longer before they cancel
    (torch.float64, "grad_weight"): 32,
    (torch.float32, "grad_weight"): 32,
    # one rounding of the result and half of one in what it is compared with; the tail of a
    # normal sum reaches four times its size
    (torch.bfloat16, "forward"): 4,
    (torch.float16, "forward"): 4,
    (torch.bfloat16, "grad_features"): 4,
    (torch.float16, "grad_features"): 4,
    (torch.bfloat16, "grad_weight"): 4,
    (torch.float16, "grad_weight"): 4,
    # some twenty layers, each rounding sums of hundreds of products, with norms between them that
    # divide by spreads below 1; outputs of size 1
    (torch.float32, "net"): 1024,
    # the same twice over, and batch norms of a handful of rows, whose gradients nearly cancel
    (torch.float32, "grad_net"): 8192,
    # a layer of many steps against its formula, or against itself written otherwise: norms,
    # softmaxes and quotients between sums magnify roundings a few thousand times. A wrong term is
    # larger by far: in float64 the bound is 1e-11
    (torch.float64, "formula"): 2**16,
    # whole families against themselves in float64, in units of their largest numbers: exponents of
    # softmaxes and positions between sites lose digits before anything is summed
    (torch.float32, "formula"): 2**13,
    # the same with every step rounded to 8 bits, and what they decide
    (torch.bfloat16, "formula"): 12,
    # a softmax of logits of 1e5 for its largest: their roundings are what exponents differ by
    (torch.float32, "logits"): 2**17,
    # the same ops in a graph, or one after the other in another order
    (torch.float32, "traced"): 2**10,
    # the mean loss of some ten training steps against float32's: dozens of steps on activations and
    # gradients of 8 bits lead to other weights of the same quality
    (torch.bfloat16, "loss"): 8,
    # compiled kernels against the reference, in units of the largest number: thousands of pairs
    # summed in another order; a 16-bit result is off by one rounding of it at most
    (torch.float64, "kernel"): 512,
    (torch.float32, "kernel"): 96,
    (torch.bfloat16, "kernel"): 1,
    (torch.float16, "kernel"): 1,
    # a choice, not a sum: exact in every dtype
    (torch.float64, "choice"): 0,
    (torch.float32, "choice"): 0,
    (torch.bfloat16, "choice"): 0,
    (torch.float16, "choice"): 0,
}


def tolerance(dtype: torch.dtype, quantity: str, terms: int = 1) -> dict[str, float]:
    """Return `rtol` and `atol` for `torch.testing.assert_close`.

    Args:
        dtype: of the result.
        quantity: `"forward"`, `"grad_features"`, `"grad_weight"`, `"kernel"` or `"choice"`;
            `"formula"` (not float16); `"traced"`, `"logits"`, `"net"`, `"grad_net"` (float32
            alone); `"loss"` (bfloat16 alone).
        terms: products summed into one number, such as `K * C`.

    Returns:
        `rtol` of that many roundings, `atol` scaled with `sqrt(terms)`.

    Raises:
        KeyError: no such line in the table.
    """
    if (dtype, quantity) not in TABLE:
        raise KeyError(complain("quantity", "a line of TABLE", f"{dtype}, {quantity!r}"))
    rounding = TABLE[dtype, quantity] * torch.finfo(dtype).eps
    return {"rtol": rounding, "atol": rounding * math.sqrt(max(terms, 1))}
