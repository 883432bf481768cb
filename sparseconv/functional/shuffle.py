"""Exchange channels between groups."""

from __future__ import annotations

from torch import Tensor

from sparseconv._errors import complain
from sparseconv.tensor.sparse_tensor import SparseTensor


def shuffle_channels(
    x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    groups: int,
) -> SparseTensor | Tensor:  # of the same shape
    """Deal out the channels of each group to all others: channel `j G + i` is channel `i C/G + j`.

    A grouped layer behind it then reads from every group before it. Shuffling by G and then by
    C / G changes nothing.

    Args:
        x: sparse [N, C] or dense [B, C, X, Y, Z].
        groups: G, a divisor of C.

    Returns:
        A tensor like `x`.

    Raises:
        ValueError: `groups` does not divide the channels.

    Source:
        Zhang et al., "ShuffleNet", arXiv:1707.01083, section 3.1.
    """
    channels = x.channels if isinstance(x, SparseTensor) else x.shape[1]
    if groups < 1 or channels % groups:
        raise ValueError(complain("groups", f"a divisor of {channels} channels", f"{groups}"))
    values = x.features if isinstance(x, SparseTensor) else x
    split = values.unflatten(1, (groups, channels // groups)).transpose(1, 2).flatten(1, 2)
    return x.replace(features=split) if isinstance(x, SparseTensor) else split
