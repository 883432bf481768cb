"""An index of sites by blocks of 4 x 4 x 4 cells."""

import torch
from torch import Tensor

from sparseconv import _native
from sparseconv.backends.cpu._arguments import sites


def block_index(
    coords: Tensor,  # [N, 4] int32
) -> Tensor:  # [words] int32
    """Return the words that csrc/core/block_index.hpp describes."""
    coords = sites("coords", coords)
    return _native.block_index(coords.data_ptr(), coords.shape[0], torch.get_num_threads())
