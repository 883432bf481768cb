"""What a layer costs on a given input: parameters, operations, and the ops it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sparseconv.backends.reference.dim_conv import taps_within
from sparseconv.tensor.sparse_tensor import SparseTensor

# the eight sites around a position, a multiply-add each
CORNERS = 8


@dataclass(frozen=True)
class Cost:
    """What one call of a layer costs.

    Attributes:
        parameters: numbers that training changes.
        flops: operations of products and weighted sums, two a multiply-add; what is done number
            by number (norms, activations, softmax) is not counted.
        primitives: names of the ops of this library that ran, those that place sites left out.
    """

    parameters: int
    flops: int
    primitives: tuple[str, ...]


def _conv(features, weight, bias, in_rows, out_rows, segments, *_):
    # a masked layer reads the first taps of a rulebook alone
    return 2 * int(segments[-1]) * weight.shape[1] * weight.shape[2]


def _conv_fused(features, weight, bias, mean, var, scale, shift, eps, residual, relu, *rows):
    return _conv(features, weight, bias, *rows)


def _octave_conv(features, low, hh, hl, lh, ll, bias, in_rows, out_rows, segments, *rest):
    of_parents, num = rest[2], features.shape[0]
    at_sites = int(segments[-1]) * hh.shape[1] * hh.shape[2]
    columns = (hl.shape[1] + ll.shape[1]) * hl.shape[2] + lh.shape[1] * lh.shape[2]
    # sums of children, and what is lifted
    passes = features.shape[1] + hh.shape[2] + (hl.shape[2] if low is None else 0)
    return 2 * (at_sites + int(of_parents[-1]) * columns + num * passes)


def _pairs(features, in_rows, *_):
    return 2 * in_rows.shape[0] * features.shape[1]


def _pair_dot(a, b, a_rows, *_):
    return 2 * a_rows.shape[0] * a.shape[1]


def _tap_sum(features, weights, in_rows, *_):
    return 2 * in_rows.shape[0] * features.shape[1]


def _tap_dot(a, b, in_rows, *_):
    return 2 * in_rows.shape[0] * a.shape[1]


def _relation_mean(features, query, key, prior, in_rows, *_):
    return _pairs(features, in_rows)


def _dim_conv(features, weights, join, bias, coords, in_rows, out_rows, segments, size, *kind):
    _, shifts, axes, _ = kind
    pairs = segments.diff().tolist()
    found = 0 if join is None else coords.shape[0] * len(axes)
    for axis in axes:
        reads = sum(pairs[t] for t, _ in taps_within(size, axis))
        found += reads * (len(shifts) if axis else 1)
    return 2 * found * features.shape[1]


def _sample_sum(features, coords, blocks, items, positions, *_):
    return 2 * CORNERS * positions.shape[0] * positions.shape[1] * features.shape[1]


def _moved_sum(features, coords, blocks, sites, query, weight, bias, grid, groups, *_):
    samples = query.shape[0] * weight.shape[0] // (4 * groups)
    return 2 * (query.shape[0] * weight.numel() + CORNERS * samples * features.shape[1])


def _moved_kernel(features, coords, blocks, sites, heads, grid, *_):
    return 2 * (2 * CORNERS + 1) * heads.shape[0] * grid.shape[0] * features.shape[1]


def _deform_conv(features, coords, blocks, sites, heads, grid, weight, *_):
    samples = heads.shape[0] * grid.shape[0]
    products = weight.shape[1] * weight.shape[2]
    return 2 * samples * (CORNERS * features.shape[1] + products)


def _ragged_attention(q, k, v, q_ends, k_ends, *_):
    logits = int((q_ends.diff() * k_ends.diff()).sum()) * q.shape[1]
    return 2 * logits * (q.shape[2] + v.shape[2])


def _deform_kernel(features, weight, places, in_rows, *_):
    return 2 * (CORNERS + 1) * in_rows.shape[0] * features.shape[1]


FORMULAS: dict[str, Callable[..., int]] = {
    "conv": _conv,
    "conv_fused": _conv_fused,
    "conv_norm": _conv,
    "octave_conv": _octave_conv,
    "aggregate": _pairs,
    "pair_dot": _pair_dot,
    "tap_sum": _tap_sum,
    "tap_dot": _tap_dot,
    "relation_mean": _relation_mean,
    "dim_conv": _dim_conv,
    "sample_sum": _sample_sum,
    "moved_sum": _moved_sum,
    "moved_kernel": _moved_kernel,
    "deform_conv": _deform_conv,
    "deform_kernel": _deform_kernel,
    "ragged_attention": _ragged_attention,
}
# where, not what: these place sites and pairs
PLACING = {
    "site_index",
    "site_order",
    "lookup",
    "pyramid",
    "unique_coords",
    "output_coords",
    "rulebook",
    "cube_rulebook",
    "halve",
    "join_rows",
    "block_index",
    "item_order",
    "split_by_item",
    "pairs_by_row",
}


class _Counter(TorchDispatchMode):
    """Adds up the operations of the ops that run while it is in force."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.primitives: dict[str, None] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.namespace == "sparseconv":
            name = func._opname
            if name not in PLACING:
                self.primitives[name] = None
            if name in FORMULAS:
                self.flops += FORMULAS[name](*args)
        elif func._overloadpacket in flop_registry:
            self.flops += int(flop_registry[func._overloadpacket](*args, **kwargs, out_val=out))
        return out


def cost(
    layer: nn.Module,
    x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
) -> Cost:
    """Run a layer once, without gradients, and count.

    Args:
        layer: maps `x` to anything; norms that need several rows are best in `eval()` mode.
        x: its input.

    Returns:
        Parameters, operations and primitives of this call.
    """
    with torch.no_grad(), _Counter() as counter:
        layer(x)
    parameters = sum(p.numel() for p in layer.parameters())
    return Cost(parameters, counter.flops, tuple(counter.primitives))
