"""Non-local block: every site reads all sites of its scan."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.attention import attention
from sparseconv.functional.full_grid import on_full_grid
from sparseconv.functional.linear import traceable_linear
from sparseconv.functional.non_local import dot_sum, ramp_sum
from sparseconv.functional.parents import blocks
from sparseconv.functional.pool import max_pool3d
from sparseconv.geometry import Triple
from sparseconv.nn.conv._drop_in import with_channels
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv.pointwise import PointwiseConv3d
from sparseconv.nn.family import Family
from sparseconv.nn.norm import BatchNorm
from sparseconv.tensor.sparse_tensor import SparseTensor

SOFTMAX = ("gaussian", "embedded")
MODES = (*SOFTMAX, "dot", "concat")


class NonLocal3d(ChecksInput, nn.Module):
    """Add to every site a mean over all sites of its scan, weighed by how well they go together.

    `z[i] = x[i] + norm(W_z y[i])`, `y[i] = 1 / C sum over j of f(x[i], x[j]) g(x[j])`, j running
    over the active sites of the scan of i. With linear maps theta, phi, g:

    - `"gaussian"`: f = exp(<x[i], x[j]>), C = sum over j of f: a softmax;
    - `"embedded"`: f = exp(<theta x[i], phi x[j]>), C likewise;
    - `"dot"`: f = <theta x[i], phi x[j]>, C = the number of sites;
    - `"concat"`: f = max(<w, (theta x[i], phi x[j])>, 0), C = the number of sites.

    The first two take time quadratic in a scan's sites, `"dot"` linear time, `"concat"`
    O(N log N); none holds a matrix of sites by sites. As made, the block changes nothing.

    Args:
        in_channels: C.
        inter_channels: channels of theta, phi and g; None for C // 2.
        mode: one of the four above.
        sub_sample: whether phi and g read the maxima over blocks of 2 x 2 x 2 voxels instead of
            the sites.
        scale: whether the softmax's products are divided by the root of their channels, as in the
            published code, not in the paper.
        norm: `"batch"`, or None.
        residual: whether to add x.
        max_tokens: refuse batches of more active sites, where the two slow modes would take
            longer than you care to wait; None for no limit.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        ValueError: an argument is out of range.

    Source:
        Wang, Girshick, Gupta, He, "Non-local Neural Networks", arXiv:1711.07971.
    """

    def __init__(
        self,
        in_channels: int,
        inter_channels: int | None = None,
        mode: str = "embedded",
        sub_sample: bool = False,
        scale: bool = False,
        norm: str | None = "batch",
        residual: bool = True,
        max_tokens: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(complain("mode", f"one of {', '.join(MODES)}", repr(mode)))
        if norm not in ("batch", None):
            raise ValueError(complain("norm", "'batch' or None", repr(norm)))
        inner = max(in_channels // 2, 1) if inter_channels is None else inter_channels
        self.in_channels, self.inter_channels = in_channels, inner
        self.mode, self.sub_sample, self.scale = mode, sub_sample, scale
        self.residual, self.max_tokens = residual, max_tokens
        factory = {"device": device, "dtype": dtype}

        def embedding() -> PointwiseConv3d | None:
            return None if mode == "gaussian" else PointwiseConv3d(in_channels, inner, **factory)

        self.theta, self.phi = embedding(), embedding()
        self.g = PointwiseConv3d(in_channels, inner, **factory)
        self.out = PointwiseConv3d(inner, in_channels, **factory)
        self.norm = None if norm is None else BatchNorm(in_channels, **factory)
        # of theta, then of phi
        concat = mode == "concat"
        self.affinity = nn.Parameter(torch.empty(2, inner, **factory)) if concat else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw parameters: normal with spread 0.01, biases 0, the last scale 0."""
        for layer in (self.theta, self.phi, self.g, self.out):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
        if self.affinity is not None:
            nn.init.normal_(self.affinity, std=0.01)
        nn.init.zeros_(self.out.weight if self.norm is None else self.norm.weight)

    def read(
        self,
        x: SparseTensor,  # [N, C]
    ) -> Tensor:  # [N, inter_channels]
        """Return `y`, what every site reads from its scan."""
        keys = x
        if self.sub_sample:
            keys = max_pool3d(x, blocks(x.spatial_shape, 2))
        values = self.g(keys).features
        theta = x.features if self.theta is None else self.theta(x).features
        phi = keys.features if self.phi is None else self.phi(keys).features
        if self.mode == "dot":
            return dot_sum(theta, phi, values, x, keys)
        if self.mode == "concat":
            a = traceable_linear(theta, self.affinity[:1], None)[:, 0]
            b = traceable_linear(phi, self.affinity[1:], None)[:, 0]
            return ramp_sum(a, b, values, x, keys)
        scale = theta.shape[1] ** -0.5 if self.scale else 1.0
        heads = (t[:, None] for t in (theta, phi, values))
        return attention(*heads, x, keys, scale)[:, 0]

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Return a tensor of the shape and sites of `x`.

        Raises:
            ValueError: there are more active sites than `max_tokens`.
        """
        self.check_input(x)
        if isinstance(x, Tensor):
            return on_full_grid(self, x)
        self._check_count(x)
        y = self.out(x.replace(features=self.read(x)))
        y = y if self.norm is None else self.norm(y)
        return x.replace(features=x.features + y.features) if self.residual else y

    def _check_count(self, x: SparseTensor) -> None:
        limited = self.max_tokens is not None and self.mode in SOFTMAX
        if limited and not torch.compiler.is_compiling() and len(x) > self.max_tokens:
            raise ValueError(
                complain(
                    "x",
                    f"at most max_tokens={self.max_tokens} active sites",
                    f"{len(x)}",
                    "downsample first, or use mode='dot' or 'concat', which take linear time",
                )
            )

    def extra_repr(self) -> str:
        """Return channels and mode."""
        text = f"{self.in_channels}, {self.inter_channels}, mode={self.mode!r}"
        return text + ", sub_sample=True" if self.sub_sample else text


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    return with_channels(NonLocal3d(in_channels), in_channels, out_channels)


FAMILIES = (
    Family(
        number=21,
        key="non_local",
        title="Non-local block",
        layer=NonLocal3d,
        paper="arXiv:1711.07971",
        summary="Every site reads all sites of its scan, weighed by how well they go together, "
        "however far apart.",
        formula="z[i] = x[i] + W_z (1 / C sum over sites j of scan b of f(x[i], x[j]) g(x[j])), f "
        "an exponential, a dot product or a ramp",
        on_sparse="Empty sites do not count, neither in the sum nor in C; a dense layer on the "
        "zero-filled grid would read them too. What is read does not depend on where sites lie.",
        use_when="On coarse levels, to let distant parts of a scan meet; with mode='dot' or "
        "'concat' on fine levels too, as these take linear time and O(N log N).",
        primitives=("conv", "ragged_attention", "aggregate", "norm_apply"),
        make=_make,
    ),
)
