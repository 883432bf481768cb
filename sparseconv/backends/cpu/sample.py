"""Reading between sites: weighted sums of samples, and their gradients."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv._errors import complain
from sparseconv.backends.cpu._arguments import DTYPES, dense, rows
from sparseconv.backends.reference import sample as reference


def _place(
    features: Tensor,  # [N, C]
    blocks: Tensor,  # opaque
    items: Tensor,  # [M] int32
    positions: Tensor,  # [M, K, G, 3]
) -> _native.Positions:
    """Check where samples are read; the tensors must be contiguous and outlive what is returned."""
    (m, taps, groups, three), channels = positions.shape, features.shape[1]
    if three != 3 or groups < 1 or channels % groups or items.shape[0] != m:
        raise ValueError(
            complain(
                "positions",
                f"shape [{items.shape[0]}, K, G, 3], G a divisor of {channels}",
                f"{list(positions.shape)}",
            )
        )
    return _native.Positions(
        blocks.data_ptr(),
        blocks.shape[0],
        features.shape[0],
        items.data_ptr(),
        positions.data_ptr(),
        positions.dtype == torch.float64,
        m,
        taps,
        groups,
    )


def _tensors(
    features: Tensor,
    blocks: Tensor,
    items: Tensor,
    positions: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return contiguous CPU tensors, or refuse."""
    dtype = positions.dtype
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(complain("positions", "float32 or float64", str(dtype)))
    return (
        rows("features", features),
        dense("blocks", blocks, torch.int32, 1),
        dense("items", items, torch.int32, 1),
        dense("positions", positions, dtype, 4),
    )


def _scales(name: str, values: Tensor | None, features: Tensor, positions: Tensor) -> Tensor | None:
    """Return contiguous weights of positions, or refuse."""
    if values is None:
        return None
    values = dense(name, values, features.dtype, 3)
    if values.shape != positions.shape[:3]:
        raise ValueError(complain(name, f"{list(positions.shape[:3])}", f"{list(values.shape)}"))
    return values


def address(tensor: Tensor | None) -> int:
    """Return where numbers lie, 0 where there are none."""
    return 0 if tensor is None else tensor.data_ptr()


def nothing(*tensors: Tensor) -> bool:
    """Return whether there is no work: the reference gives the zeros and the bias."""
    return any(tensor.numel() == 0 for tensor in tensors)


def sample_sum(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    items: Tensor,  # [M] int32
    positions: Tensor,  # [M, K, G, 3]
    weights: Tensor | None,  # [M, K, G]
    normalize: bool,
) -> Tensor:  # [M, C]
    """Return `y[o, c] = sum over t of weights[o, t, g(c)] x(positions[o, t, g(c)])[c]`."""
    if nothing(features, positions):
        return reference.sample_sum(features, coords, blocks, items, positions, weights, normalize)
    features, blocks, items, positions = _tensors(features, blocks, items, positions)
    weights = _scales("weights", weights, features, positions)
    y = features.new_empty(positions.shape[0], features.shape[1])
    _native.sample_sum(
        DTYPES[features.dtype],
        _place(features, blocks, items, positions),
        features.shape[1],
        features.data_ptr(),
        address(weights),
        normalize,
        y.data_ptr(),
        torch.get_num_threads(),
    )
    return y


def sample_sum_grad(
    features: Tensor,  # [N, C]
    coords: Tensor,  # [N, 4] int32
    blocks: Tensor,  # opaque
    items: Tensor,  # [M] int32
    positions: Tensor,  # [M, K, G, 3]
    weights: Tensor | None,  # [M, K, G]
    grad: Tensor,  # [M, C]
    normalize: bool,
    moved: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # [N, C], [M, K, G, 3] or [0], [M, K, G] or [0]
    """Return the gradients of features and, where `moved`, of positions and weights."""
    if nothing(features, positions):
        given = (features, coords, blocks, items, positions, weights, grad, normalize, moved)
        return reference.sample_sum_grad(*given)
    features, blocks, items, positions = _tensors(features, blocks, items, positions)
    weights = _scales("weights", weights, features, positions)
    grad = gradient(grad, features, positions.shape[0], features.shape[1])
    made = _made(features, positions, weights, moved)
    _native.sample_sum_grad(
        DTYPES[features.dtype],
        _place(features, blocks, items, positions),
        features.shape[1],
        features.data_ptr(),
        address(weights),
        normalize,
        grad.data_ptr(),
        made[0].data_ptr(),
        *(tensor.data_ptr() if moved else 0 for tensor in made[1:]),
        torch.get_num_threads(),
    )
    return made


def _made(
    features: Tensor, positions: Tensor, scales: Tensor | None, moved: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return room for the gradients of features, positions and their weights."""
    return (
        features.new_empty(features.shape),
        positions.new_empty(positions.shape if moved else 0),
        features.new_empty(scales.shape if moved and scales is not None else 0),
    )


def gradient(grad: Tensor, features: Tensor, m: int, width: int) -> Tensor:
    """Return a contiguous gradient [M, D] of the features' dtype, or refuse."""
    grad = rows("grad", grad, features.dtype)
    if grad.shape != (m, width):
        raise ValueError(complain("grad", f"{[m, width]}", f"{list(grad.shape)}"))
    return grad
