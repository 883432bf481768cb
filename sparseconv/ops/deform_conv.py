"""What: convolutions of trilinear samples at taps that every output site moves."""

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference import deform_conv as reference
from sparseconv.ops._checks import check_coords, check_features, check_same_dtype, describe
from sparseconv.ops._registry import compiled, define
from sparseconv.ops.sample import cast, differentiated_once, equal_rows


def _fake_deform_conv(
    features, coords, blocks, sites, heads, grid, weight, bias, parts, squash, groups
):
    return features.new_empty(heads.shape[0], weight.shape[2])


def _fake_deform_conv_grad(
    features, coords, blocks, sites, heads, grid, weight, grad, parts, squash, groups
):
    return tuple(t.new_empty(t.shape) for t in (features, heads, weight))


def _setup_deform_conv(ctx, inputs, output):
    *tensors, bias, parts, squash, groups = inputs
    ctx.given = parts, squash, groups
    ctx.biased = bias is not None
    ctx.save_for_backward(*tensors)


def _deform_conv_backward(ctx, grad):
    to_features, to_heads, to_weight = _deform_conv_grad(*ctx.saved_tensors, grad, *ctx.given)
    to_bias = grad.sum(0) if ctx.biased and ctx.needs_input_grad[7] else None
    to_grid, parts = None, ctx.given[0]
    if ctx.needs_input_grad[5]:
        taps = to_weight.shape[0]
        to_grid = to_heads[:, : 3 * parts * taps].sum(0).reshape(parts, taps, 3).sum(0)
    return to_features, None, None, None, to_heads, to_grid, to_weight, to_bias, None, None, None


def _setup_once(ctx, inputs, output):
    pass


_deform_conv = define(
    "deform_conv(Tensor features, Tensor coords, Tensor blocks, Tensor sites, Tensor heads, "
    "Tensor grid, Tensor weight, Tensor? bias, int parts, bool squash, int groups) -> Tensor",
    reference=reference.deform_conv,
    compiled=compiled("deform_conv", "deform_conv"),
    fake=_fake_deform_conv,
    setup=_setup_deform_conv,
    backward=_deform_conv_backward,
)
_deform_conv_grad = define(
    "deform_conv_grad(Tensor features, Tensor coords, Tensor blocks, Tensor sites, Tensor heads, "
    "Tensor grid, Tensor weight, Tensor grad, int parts, bool squash, int groups) "
    "-> (Tensor, Tensor, Tensor)",
    reference=reference.deform_conv_grad,
    compiled=compiled("deform_conv", "deform_conv_grad"),
    fake=_fake_deform_conv_grad,
    setup=_setup_once,
    backward=differentiated_once,
)


def deform_conv(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    sites: Tensor,  # [M, 4] int32
    heads: Tensor,  # [M, 3 H K] or [M, 4 H K]
    grid: Tensor,  # [K, 3]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    parts: int = 1,
    squash: bool = False,
    groups: int = 1,
) -> Tensor:  # [M, D]
    """Convolve samples read between sites, at taps that every output site moves.

    `y[o] = bias + sum over t of v[o, t] W[t]`, group by group, where
    `v[o, t, c] = m[o, h, t] x(p)[c]`, `h = c // (C / H)`, is read at
    `p = site(o) + grid[t] + d[o, h, t]`, trilinearly, sites that are absent adding 0. The heads of
    a row are `d` [H, K, 3] and behind them, where rows are that long, `m` [H, K]; with `squash`
    m is the sigmoid of what lies there. What is read is never stored, nor are positions.

    Args:
        features: float [N, C].
        coords: int32 [N, 4], their sites.
        blocks: what `block_index(coords)` returned.
        sites: int32 [M, 4], the sites taps lie about, on the lattice of `coords`.
        heads: float32 or float64 [M, 3 H K], or with masks [M, 4 H K]; offsets in voxels.
        grid: [K, 3] like the heads, voxels from a site to each of its taps.
        weight: dtype of the features, [K, C / G, D].
        bias: dtype of the features, [D], or None.
        parts: H, groups of input channels with offsets of their own.
        squash: whether a mask is the sigmoid of its head.
        groups: G, of input and output channels.

    Returns:
        dtype of the features, under autocast its dtype, [M, D]. Differentiable once; at an integer
        the derivative is that of the cell above it.

    Raises:
        TypeError: a dtype or device does not fit.
        ValueError: rows, taps, groups or channels do not fit.
        RuntimeError: a second derivative is asked for.

    Source:
        Dai et al., "Deformable Convolutional Networks", arXiv:1703.06211; Zhu et al., "Deformable
        ConvNets v2", arXiv:1811.11168.
    """
    features, weight, bias = cast(features, weight, bias)
    check_features("features", features)
    check_coords("coords", coords)
    equal_rows("coords", coords, features)
    check_coords("sites", sites)
    _check_heads(heads, grid, parts, features)
    equal_rows("sites", sites, heads)
    check_same_dtype("weight", weight, features)
    channels, taps = features.shape[1], grid.shape[0]
    fits = (
        weight.dim() == 3
        and groups >= 1
        and (weight.shape[0], weight.shape[1] * groups) == (taps, channels)
        and weight.shape[2] % groups == 0
    )
    if not fits:
        raise ValueError(
            complain(
                "weight",
                f"shape [{taps}, C / groups, D] for {channels} channels and {groups} groups",
                describe(weight),
                "the grid has one row for every tap",
            )
        )
    if bias is not None:
        check_same_dtype("bias", bias, features)
        if bias.dim() != 1 or bias.shape[0] != weight.shape[2]:
            raise ValueError(complain("bias", f"shape [{weight.shape[2]}]", describe(bias)))
    given = features, coords, blocks, sites, heads, grid, weight, bias
    return _deform_conv(*given, parts, squash, groups)


def _check_heads(
    heads: Tensor,  # [M, R]
    grid: Tensor,  # [K, 3]
    parts: int,
    features: Tensor,  # [N, C]
) -> None:
    """Refuse offsets and masks that do not fit taps and channels."""
    channels = features.shape[1]
    if heads.dtype not in (torch.float32, torch.float64):
        cure = "sixteen bits are too coarse for offsets: use .float()"
        raise TypeError(complain("heads", "float32 or float64 [M, R]", describe(heads), cure))
    if heads.device != features.device:
        raise TypeError(complain("heads", f"a tensor on {features.device.type}", describe(heads)))
    check_same_dtype("grid", grid, heads)
    if grid.dim() != 2 or grid.shape[1] != 3:
        raise ValueError(complain("grid", "shape [K, 3]", describe(grid)))
    if parts < 1 or channels % parts:
        raise ValueError(complain("parts", f"a divisor of {channels} channels", str(parts)))
    cells = parts * grid.shape[0]
    if heads.dim() != 2 or heads.shape[1] not in (3 * cells, 4 * cells):
        expected = f"shape [M, {3 * cells}], or with masks [M, {4 * cells}]"
        raise ValueError(complain("heads", expected, describe(heads)))
