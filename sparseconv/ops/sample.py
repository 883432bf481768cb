"""What: trilinear samples between sites, and their weighted sums."""

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import sample as reference
from sparseconv.ops._checks import check_coords, check_features, check_same_dtype, describe
from sparseconv.ops._registry import compiled, define


def _fake_sample_sum(features, coords, blocks, items, positions, weights, normalize):
    return features.new_empty(positions.shape[0], features.shape[1])


def _fake_sample_sum_grad(
    features, coords, blocks, items, positions, weights, grad, normalize, moved
):
    return (
        features.new_empty(features.shape),
        positions.new_empty(positions.shape if moved else 0),
        features.new_empty(weights.shape if moved and weights is not None else 0),
    )


def _setup_sample_sum(ctx, inputs, output):
    *tensors, ctx.normalize = inputs
    ctx.save_for_backward(*tensors)


def _sample_sum_backward(ctx, grad):
    *inputs, weights = ctx.saved_tensors
    moved = ctx.needs_input_grad[4] or ctx.needs_input_grad[5]
    made = _sample_sum_grad(*inputs, weights, grad, ctx.normalize, moved)
    to_features, to_positions, to_weights = made
    to_positions = to_positions if moved else None
    to_weights = to_weights if moved and weights is not None else None
    return to_features, None, None, None, to_positions, to_weights, None


def _setup_sample_sum_grad(ctx, inputs, output):
    _, *where, weights, _, ctx.normalize, _ = inputs
    ctx.save_for_backward(*where, weights)
    ctx.set_materialize_grads(False)


def _sample_sum_grad_backward(ctx, by_features, by_positions, by_weights):
    # the gradient of the features is linear in that of the result: its derivative is the sum itself
    *where, weights = ctx.saved_tensors
    moves = ctx.needs_input_grad[4] or ctx.needs_input_grad[5]
    if moves or by_positions is not None or by_weights is not None:
        differentiated_once(ctx)
    to_grad = None
    if by_features is not None:
        to_grad = _sample_sum(by_features, *where, weights, ctx.normalize)
    return *[None] * 6, to_grad, None, None


def differentiated_once(ctx, *grads):
    """Refuse the derivative of a gradient."""
    raise RuntimeError(
        complain(
            "create_graph",
            "one derivative of a layer that samples between sites",
            "a second one, which is not offered",
            "leave create_graph out, or detach what was differentiated",
        )
    )


_sample_sum = define(
    "sample_sum(Tensor features, Tensor coords, Tensor blocks, Tensor items, Tensor positions, "
    "Tensor? weights, bool normalize) -> Tensor",
    reference=reference.sample_sum,
    compiled=compiled("sample", "sample_sum"),
    fake=_fake_sample_sum,
    setup=_setup_sample_sum,
    backward=_sample_sum_backward,
)
_sample_sum_grad = define(
    "sample_sum_grad(Tensor features, Tensor coords, Tensor blocks, Tensor items, "
    "Tensor positions, Tensor? weights, Tensor grad, bool normalize, bool moved) "
    "-> (Tensor, Tensor, Tensor)",
    reference=reference.sample_sum_grad,
    compiled=compiled("sample", "sample_sum_grad"),
    fake=_fake_sample_sum_grad,
    setup=_setup_sample_sum_grad,
    backward=_sample_sum_grad_backward,
)


def cast(features: Tensor, *others: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return the tensors in autocast's dtype, where it is on."""
    device = features.device.type
    if not torch.is_autocast_enabled(device) or features.dtype == torch.float64:
        return features, *others
    dtype = torch.get_autocast_dtype(device)
    return tuple(None if t is None else t.to(dtype) for t in (features, *others))


def _check(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    items: Tensor,  # [M] int32
    positions: Tensor,  # [M, K, G, 3]
    name: str,
    weights: Tensor | None,  # [M, K, G]
) -> None:
    """Refuse rows, groups and dtypes that do not fit each other."""
    check_features("features", features)
    check_coords("coords", coords)
    equal_rows("coords", coords, features)
    if positions.dtype not in (torch.float32, torch.float64):
        cure = "a half has too few bits for voxels beyond 2048: use .float()"
        raise TypeError(
            complain("positions", "float32 or float64 [M, K, G, 3]", describe(positions), cure)
        )
    if positions.dim() != 4 or positions.shape[3] != 3:
        cure = "the last axis is x, y, z in voxels"
        raise ValueError(complain("positions", "shape [M, K, G, 3]", describe(positions), cure))
    if positions.device != features.device:
        raise TypeError(
            complain("positions", f"a tensor on {features.device.type}", describe(positions))
        )
    if items.dtype != torch.int32 or items.dim() != 1:
        cure = "it is the batch column of the output sites"
        raise TypeError(complain("items", "an int32 tensor [M]", describe(items), cure))
    equal_rows("items", items, positions)
    channels, groups = features.shape[1], positions.shape[2]
    if groups < 1 or channels % groups:
        raise ValueError(
            complain("positions", f"groups that divide {channels} channels", f"{groups} groups")
        )
    if weights is None:
        return
    check_same_dtype(name, weights, features)
    if weights.dim() != 3 or weights.shape[1:] != positions.shape[1:3]:
        expected = f"shape [M, {positions.shape[1]}, {groups}]"
        raise ValueError(complain(name, expected, describe(weights)))
    equal_rows(name, weights, positions)


def equal_rows(name: str, value: Tensor, other: Tensor) -> None:
    """Refuse tensors that do not have one row for each of another."""
    if torch.compiler.is_compiling():
        torch._check(value.shape[0] == other.shape[0])
    elif value.shape[0] != other.shape[0]:
        raise ValueError(complain(name, f"{other.shape[0]} rows", describe(value)))


def sample_sum(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    items: Tensor,  # [M] int32
    positions: Tensor,  # [M, K, G, 3]
    weights: Tensor | None,  # [M, K, G]
    *,
    normalize: bool = False,
) -> Tensor:  # [M, C]
    """Sum samples read between sites.

    `y[o, c] = sum over t of weights[o, t, g(c)] sum over active sites s of o's item of
    x[s, c] product over axes of max(0, 1 - |p - s|)`, with `p = positions[o, t, g(c)]` and
    `g(c) = c // (C / G)`. Sites that are absent add 0, and so does a position that is not finite.

    Args:
        features: float [N, C].
        coords: int32 [N, 4], their sites.
        blocks: what `block_index(coords)` returned.
        items: int32 [M], batch item of every row that is made.
        positions: float32 or float64 [M, K, G, 3], voxels; site (i, j, k) sits at (i, j, k).
        weights: dtype of the features, [M, K, G], or None for ones.
        normalize: divide each sample by the sum of the products of the sites that are active, so
            that it is their mean; one without any stays 0.

    Returns:
        dtype of the features, under autocast its dtype, [M, C]. Differentiable once in features,
        positions and weights, in the features alone any number of times; at an integer the
        derivative is that of the cell above it.

    Raises:
        TypeError: a dtype or device does not fit.
        ValueError: rows, groups or channels do not fit.
        RuntimeError: a second derivative is asked for.

    Source:
        Wang et al., "InternImage", arXiv:2211.05778, equation 2.
    """
    features, weights = cast(features, weights)
    _check(features, coords, items, positions, "weights", weights)
    return _sample_sum(features, coords, blocks, items, positions, weights, normalize)
