"""What every convolution layer refuses at its door."""

from __future__ import annotations

from torch import Tensor

from sparseconv._errors import complain
from sparseconv.tensor.sparse_tensor import SparseTensor


class ChecksInput:
    """Makes a module with `in_channels` refuse what it cannot take."""

    in_channels: int

    def check_input(self, x: SparseTensor | Tensor) -> None:
        """Refuse an input whose channels are not the layer's.

        Raises:
            TypeError: neither a sparse tensor nor a dense one.
            ValueError: wrong number of channels or dimensions.
        """
        if isinstance(x, SparseTensor):
            found = x.features.shape[1]
        elif isinstance(x, Tensor):
            if x.dim() != 5:
                raise ValueError(
                    complain(
                        f"input of {type(self).__name__}",
                        "a SparseTensor or a dense [B, C, X, Y, Z]",
                        f"a tensor {list(x.shape)}",
                    )
                )
            found = x.shape[1]
        else:
            raise TypeError(
                complain(
                    f"input of {type(self).__name__}",
                    "a SparseTensor or a dense [B, C, X, Y, Z]",
                    type(x).__name__,
                )
            )
        if found != self.in_channels:
            raise ValueError(
                complain(
                    f"input of {type(self).__name__}",
                    f"{self.in_channels} channels",
                    f"{found}",
                    f"make the layer with in_channels={found}",
                )
            )
