"""What: sums of trilinear samples, their places and weights predicted from a row each."""

from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import moved_sum as reference
from sparseconv.backends.reference.conv import accumulator
from sparseconv.ops._checks import check_coords, check_features, check_same_dtype, describe
from sparseconv.ops._registry import compiled, define
from sparseconv.ops.sample import cast, differentiated_once, equal_rows


def _fake_moved_sum(
    features, coords, blocks, sites, query, weight, bias, grid, groups, softmax, renormalize
):
    return features.new_empty(query.shape[0], features.shape[1])


def _fake_moved_sum_grad(
    features, coords, blocks, sites, query, weight, bias, grid, groups, softmax, renormalize, grad
):
    return tuple(t.new_empty(t.shape) for t in (features, query, weight, bias))


def _setup_moved_sum(ctx, inputs, output):
    *tensors, groups, softmax, renormalize = inputs
    ctx.given = groups, softmax, renormalize
    ctx.save_for_backward(*tensors)


def _moved_sum_backward(ctx, grad):
    made = _moved_sum_grad(*ctx.saved_tensors, *ctx.given, grad)
    to_features, to_query, to_weight, to_bias = made
    to_grid, groups = None, ctx.given[0]
    if ctx.needs_input_grad[7]:
        cells = to_bias.shape[0] // 4
        to_grid = to_bias[: 3 * cells].reshape(groups, -1, 3).sum(0)
    return to_features, None, None, None, to_query, to_weight, to_bias, to_grid, None, None, None


def _setup_once(ctx, inputs, output):
    pass


_moved_sum = define(
    "moved_sum(Tensor features, Tensor coords, Tensor blocks, Tensor sites, Tensor query, "
    "Tensor weight, Tensor bias, Tensor grid, int groups, bool softmax, bool renormalize) "
    "-> Tensor",
    reference=reference.moved_sum,
    compiled=compiled("moved_sum", "moved_sum"),
    fake=_fake_moved_sum,
    setup=_setup_moved_sum,
    backward=_moved_sum_backward,
)
_moved_sum_grad = define(
    "moved_sum_grad(Tensor features, Tensor coords, Tensor blocks, Tensor sites, Tensor query, "
    "Tensor weight, Tensor bias, Tensor grid, int groups, bool softmax, bool renormalize, "
    "Tensor grad) -> (Tensor, Tensor, Tensor, Tensor)",
    reference=reference.moved_sum_grad,
    compiled=compiled("moved_sum", "moved_sum_grad"),
    fake=_fake_moved_sum_grad,
    setup=_setup_once,
    backward=differentiated_once,
)


def moved_sum(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    query: Tensor,  # [M, Q]
    weight: Tensor,  # [4 G K, Q]
    bias: Tensor,  # [4 G K]
    grid: Tensor,  # [K, 3]
    groups: int,
    softmax: bool = False,
    renormalize: bool = False,
) -> Tensor:  # [M, C]
    """Sum samples read between sites, at places and with weights that each row predicts.

    `y[o, c] = sum over t of m[o, g, t] x(site(o) + grid[t] + d[o, g, t])[c]`, `g = c // (C / G)`.
    Offsets d [G, K, 3] and behind them m [G, K] are `weight query[o] + bias`; with `softmax` what
    lies there goes through a softmax over the taps. `x(p)` is trilinear, sites that are absent
    adding 0; with `renormalize` the sum is divided by what of its weights fell on sites, and is 0
    where nothing did. What is predicted and read is never stored.

    Args:
        features: float [N, C].
        coords: int32 [N, 4], their sites.
        blocks: what `block_index(coords)` returned.
        sites: int32 [M, 4], the sites taps lie about, on the lattice of `coords`.
        query: dtype of the features, [M, Q].
        weight: float64 where the features are, else float32, [4 G K, Q]; offsets in voxels.
        bias: like the weight, [4 G K].
        grid: like the weight, [K, 3], voxels from a site to each of its taps.
        groups: G, groups of channels with taps of their own.
        softmax: whether weights of taps are a softmax.
        renormalize: whether to divide by the weights of the sites that are there; with `softmax`.

    Returns:
        dtype of the features, under autocast its dtype, [M, C]. Differentiable once; at an integer
        the derivative is that of the cell above it.

    Raises:
        TypeError: a dtype or device does not fit.
        ValueError: rows, taps, groups or channels do not fit.
        RuntimeError: a second derivative is asked for.

    Source:
        Wang et al., "InternImage", arXiv:2211.05778; Xiong et al., "Efficient Deformable ConvNets",
        arXiv:2401.06197.
    """
    features, query = cast(features, query)
    check_features("features", features)
    check_coords("coords", coords)
    equal_rows("coords", coords, features)
    check_coords("sites", sites)
    check_features("query", query)
    check_same_dtype("query", query, features)
    equal_rows("query", query, sites)
    channels, taps = features.shape[1], grid.shape[0]
    if groups < 1 or channels % groups:
        raise ValueError(complain("groups", f"a divisor of {channels} channels", f"{groups}"))
    wide = accumulator(features.dtype)
    numbers = 4 * groups * taps
    wanted = {"weight": (numbers, query.shape[1]), "bias": (numbers,), "grid": (taps, 3)}
    for (name, shape), value in zip(wanted.items(), (weight, bias, grid), strict=True):
        if value.dtype != wide or value.device != features.device:
            expected = f"{wide} on {features.device.type}".replace("torch.", "")
            raise TypeError(complain(name, expected, describe(value)))
        if value.shape != shape or not taps:
            cure = "every tap of a group has three offsets and a weight"
            raise ValueError(complain(name, f"shape {list(shape)}", describe(value), cure))
    if renormalize and not softmax:
        cure = "weights of any sign may sum to 0"
        raise ValueError(complain("renormalize", "softmax=True with it", "softmax=False", cure))
    given = features, coords, blocks, sites, query, weight, bias, grid
    return _moved_sum(*given, groups, softmax, renormalize)
