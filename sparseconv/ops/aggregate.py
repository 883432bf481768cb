"""What: weighted sums over pairs, and the dot products that are their adjoint."""

from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import aggregate as reference
from sparseconv.ops._checks import check_features, check_pairs, check_same_dtype, describe
from sparseconv.ops._registry import compiled, define


def _fake_aggregate(features, in_rows, out_rows, weights, num_out):
    return features.new_empty(num_out, features.shape[1])


def _setup_aggregate(ctx, inputs, output):
    features, in_rows, out_rows, weights, _ = inputs
    kept = features if weights is not None else None
    ctx.save_for_backward(kept, in_rows, out_rows, weights)
    ctx.num_in = features.shape[0]


def _aggregate_backward(ctx, grad):
    features, in_rows, out_rows, weights = ctx.saved_tensors
    grad_features = grad_weights = None
    if ctx.needs_input_grad[0]:
        grad_features = _aggregate(grad, out_rows, in_rows, weights, ctx.num_in)
    if weights is not None and ctx.needs_input_grad[3]:
        grad_weights = _pair_dot(features, grad, in_rows, out_rows)
    return grad_features, None, None, grad_weights, None


def _fake_pair_dot(a, b, a_rows, b_rows):
    return a.new_empty(a_rows.shape[0])


def _setup_pair_dot(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _pair_dot_backward(ctx, grad):
    a, b, a_rows, b_rows = ctx.saved_tensors
    grad_a = grad_b = None
    if ctx.needs_input_grad[0]:
        grad_a = _aggregate(b, b_rows, a_rows, grad, a.shape[0])
    if ctx.needs_input_grad[1]:
        grad_b = _aggregate(a, a_rows, b_rows, grad, b.shape[0])
    return grad_a, grad_b, None, None


_aggregate = define(
    "aggregate(Tensor features, Tensor in_rows, Tensor out_rows, Tensor? weights, "
    "SymInt num_out) -> Tensor",
    reference=reference.aggregate,
    compiled=compiled("aggregate", "aggregate"),
    fake=_fake_aggregate,
    setup=_setup_aggregate,
    backward=_aggregate_backward,
)
_pair_dot = define(
    "pair_dot(Tensor a, Tensor b, Tensor a_rows, Tensor b_rows) -> Tensor",
    reference=reference.pair_dot,
    compiled=compiled("aggregate", "pair_dot"),
    fake=_fake_pair_dot,
    setup=_setup_pair_dot,
    backward=_pair_dot_backward,
)


def aggregate(
    features: Tensor,  # [N, C]
    in_rows: Tensor,  # [P] int32
    out_rows: Tensor,  # [P] int32
    weights: Tensor | None,  # [P]
    num_out: int,
) -> Tensor:  # [M, C]
    """Sum paired rows: `y[o] = sum over pairs p = (i, o) of w[p] x[i]`.

    Args:
        features: float [N, C].
        in_rows: int32 [P].
        out_rows: int32 [P].
        weights: same dtype, [P], or None for ones.
        num_out: output rows M.

    Returns:
        float [M, C]. Rows without input are 0. Differentiable twice.

    Raises:
        TypeError: dtypes or devices differ.
        ValueError: lengths or channels differ.
    """
    check_features("features", features)
    check_pairs(in_rows, out_rows)
    if weights is not None:
        check_same_dtype("weights", weights, features)
        if weights.dim() != 1 or weights.shape[0] != in_rows.shape[0]:
            expected = f"shape [{in_rows.shape[0]}], one per pair"
            raise ValueError(complain("weights", expected, describe(weights)))
    return _aggregate(features, in_rows, out_rows, weights, num_out)


def pair_dot(
    a: Tensor,  # [N, C]
    b: Tensor,  # [M, C]
    a_rows: Tensor,  # [P] int32
    b_rows: Tensor,  # [P] int32
) -> Tensor:  # [P]
    """Return the dot product of each pair of rows, `<a[i], b[o]>`.

    Args:
        a: float [N, C].
        b: same dtype, [M, C].
        a_rows: int32 [P].
        b_rows: int32 [P].

    Returns:
        float [P]. Differentiable twice.

    Raises:
        TypeError: dtypes or devices differ.
        ValueError: lengths or channels differ.
    """
    check_features("a", a)
    check_same_dtype("b", b, a)
    if b.dim() != 2 or b.shape[1] != a.shape[1]:
        raise ValueError(complain("b", f"shape [M, {a.shape[1]}]", describe(b)))
    check_pairs(a_rows, b_rows)
    return _pair_dot(a, b, a_rows, b_rows)
