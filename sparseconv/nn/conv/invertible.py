"""Invertible 1x1x1 convolution: a square map of the channels, its inverse and its determinant."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.linear import traceable_linear
from sparseconv.geometry import Triple
from sparseconv.nn.conv._drop_in import with_channels
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor

PARAMETRIZATIONS = ("full", "lu")


class InvConv1x1(ChecksInput, nn.Module):
    """Map the channels of every site by an invertible matrix, and say how volumes change.

    `z[n] = W x[n]`, and for each scan b of N_b sites `logdet[b] = N_b log |det W|`, which is the
    log-determinant of the Jacobian of all its features. It generalises a permutation of the
    channels between the coupling layers of a flow. W begins as a random rotation or reflection.

    Args:
        channels: C.
        parametrization: `"full"`: W itself; `"lu"`: `W = P L (U + diag(sign exp(log_scale)))` with
            fixed P and signs, whose determinant costs C operations instead of C^3.
        logdet: whether `forward` and `inverse` return the log-determinants too.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        ValueError: no such parametrization.

    Source:
        Kingma and Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions",
        arXiv:1807.03039.
    """

    def __init__(
        self,
        channels: int,
        parametrization: str = "full",
        logdet: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if parametrization not in PARAMETRIZATIONS:
            raise ValueError(complain("parametrization", "'full' or 'lu'", repr(parametrization)))
        self.in_channels = self.channels = channels
        self.parametrization, self.logdet = parametrization, logdet
        factory = {"device": device, "dtype": dtype}
        square = torch.zeros(channels, channels, **factory)
        if parametrization == "full":
            self.weight = nn.Parameter(square)
        else:
            # the strict halves of these two are what counts
            self.lower, self.upper = nn.Parameter(square), nn.Parameter(square.clone())
            self.log_scale = nn.Parameter(torch.zeros(channels, **factory))
            self.register_buffer("permutation", square.clone())
            self.register_buffer("sign", torch.ones(channels, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a random rotation or reflection, whose log-determinant is 0."""
        device = self.log_scale.device if self.parametrization == "lu" else self.weight.device
        drawn = torch.randn(self.channels, self.channels, dtype=torch.float64, device=device)
        self.set_matrix(torch.linalg.qr(drawn).Q)

    @torch.no_grad()
    def set_matrix(
        self,
        matrix: Tensor,  # [C, C]
    ) -> None:
        """Take over a matrix, whatever the parametrization.

        Raises:
            ValueError: the matrix is not [C, C], or not invertible.
        """
        size = self.channels
        if list(matrix.shape) != [size, size]:
            raise ValueError(complain("matrix", f"[{size}, {size}]", f"{list(matrix.shape)}"))
        permutation, lower, upper = torch.linalg.lu(matrix.double())
        scale = upper.diagonal()
        if not bool((scale != 0).all()):
            raise ValueError(complain("matrix", "one that can be inverted", "determinant 0"))
        if self.parametrization == "full":
            self.weight.copy_(matrix)
            return
        self.permutation.copy_(permutation)
        self.lower.copy_(lower.tril(-1))
        self.upper.copy_(upper.triu(1))
        self.sign.copy_(scale.sign())
        self.log_scale.copy_(scale.abs().log())

    def matrix(self) -> Tensor:  # [C, C]
        """Return W."""
        if self.parametrization == "full":
            return self.weight
        lower, upper = self._factors()
        # the inverse is that of the exact matrix, whatever dtype features are cast to
        with torch.autocast(lower.device.type, enabled=False):
            return self.permutation @ lower @ upper

    def _factors(self) -> tuple[Tensor, Tensor]:
        unit = torch.eye(self.channels, dtype=self.lower.dtype, device=self.lower.device)
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_scale.exp())
        return self.lower.tril(-1) + unit, upper

    def inverse_matrix(self) -> Tensor:  # [C, C]
        """Return the inverse of W, computed in float64."""
        if self.parametrization == "full":
            return torch.linalg.inv(self.weight.double()).to(self.weight.dtype)
        lower, upper = (factor.double() for factor in self._factors())
        first = self.permutation.double().t()
        first = torch.linalg.solve_triangular(lower, first, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, first, upper=True).to(self.lower.dtype)

    def log_determinant(self) -> Tensor:  # []
        """Return `log |det W|`, of one site."""
        if self.parametrization == "lu":
            return self.log_scale.sum()
        return torch.linalg.slogdet(self.weight.double()).logabsdet.to(self.weight.dtype)

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor | tuple[SparseTensor | Tensor, Tensor]:
        """Return z like `x` and, with `logdet`, the log-determinants [B]; 0 for an empty scan."""
        self.check_input(x)
        z = self._mapped(x, self.matrix())
        return (z, self._counts(x) * self.log_determinant()) if self.logdet else z

    def inverse(
        self,
        z: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor | tuple[SparseTensor | Tensor, Tensor]:
        """Return x with `forward(x) = z` and, with `logdet`, their log-determinants [B]."""
        self.check_input(z)
        x = self._mapped(z, self.inverse_matrix())
        return (x, -self._counts(z) * self.log_determinant()) if self.logdet else x

    @staticmethod
    def _mapped(x: SparseTensor | Tensor, matrix: Tensor) -> SparseTensor | Tensor:
        if isinstance(x, Tensor):
            return torch.nn.functional.conv3d(x, matrix[:, :, None, None, None])
        return x.replace(features=traceable_linear(x.features, matrix, None))

    @staticmethod
    def _counts(x: SparseTensor | Tensor) -> Tensor:  # [B] int64
        if isinstance(x, Tensor):
            cells = x.shape[2] * x.shape[3] * x.shape[4]
            return torch.full((x.shape[0],), cells, device=x.device)
        return x.topology.items(x.level).counts

    def extra_repr(self) -> str:
        """Return channels and parametrization."""
        return f"{self.channels}, parametrization={self.parametrization!r}"


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return with_channels(InvConv1x1(in_channels, logdet=False), in_channels, out_channels)


FAMILIES = (
    Family(
        number=28,
        key="invertible",
        title="Invertible 1x1x1 convolution",
        layer=InvConv1x1,
        paper="arXiv:1807.03039",
        summary="A square linear map of each site's channels, with its inverse and the "
        "log-determinants a normalising flow needs.",
        formula="z[n] = W x[n], logdet[b] = N_b log |det W|",
        on_sparse="No neighbour is read. N_b counts the active sites of scan b, where a dense "
        "layer counts all cells; an empty scan has 0.",
        use_when="Between the coupling layers of a normalising flow.",
        primitives=("conv",),
        make=_make,
    ),
)
