"""Active convolution: the taps' positions are learned, the same for all sites."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as dense

from sparseconv._errors import complain
from sparseconv.functional.conv import over_rulebook
from sparseconv.functional.parents import parents
from sparseconv.geometry import Geometry, Offsets, Triple, triple
from sparseconv.nn.conv._input import ChecksInput
from sparseconv.nn.conv.submanifold import SubMConv3d
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor

STARTS = ("grid", "sphere", "random")


class _UnitGradient(torch.autograd.Function):
    """The identity, whose gradient is scaled to length 1 along the last axis."""

    @staticmethod
    def forward(ctx, positions: Tensor) -> Tensor:
        """Return a view."""
        return positions.view_as(positions)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        """Return directions; 0 stays 0."""
        return dense.normalize(grad, dim=-1)


def start_positions(
    init: str, kernel: Triple, count: int | None, groups: int
) -> Tensor:  # [groups, T, 3] float64
    """Place synapses: on a kernel's taps, about a sphere with the first in its middle, anywhere."""
    if init not in STARTS:
        raise ValueError(complain("init", "'grid', 'sphere' or 'random'", repr(init)))
    if init == "grid":
        axes = [[i - (k - 1) // 2 for i in range(k)] for k in kernel]
        taps = torch.tensor(list(product(*axes)), dtype=torch.float64)
        if count not in (None, len(taps)):
            expected = f"None or {len(taps)}, the taps of the grid"
            raise ValueError(complain("num_synapses", expected, repr(count)))
        return taps.repeat(groups, 1, 1)
    if init == "random":
        half = (torch.tensor(kernel, dtype=torch.float64) - 1) / 2
        total = math.prod(kernel) if count is None else count
        return (torch.rand(groups, total, 3, dtype=torch.float64) * 2 - 1) * half
    # points of a spiral about the sphere, evenly spread
    n = torch.arange((7 if count is None else count) - 1, dtype=torch.float64)
    height = 1 - (2 * n + 1) / max(len(n), 1)
    angle, radius = n * math.pi * (3 - math.sqrt(5)), (1 - height.square()).clamp(min=0).sqrt()
    around = torch.stack([radius * angle.cos(), radius * angle.sin(), height], 1)
    return torch.cat([torch.zeros(1, 3, dtype=torch.float64), around]).repeat(groups, 1, 1)


class ActiveConv3d(ChecksInput, nn.Module):
    """Convolve with taps that lie between voxels, at positions that are learned.

    `y[o] = b + sum over synapses t of W_t x(site(o) s + p_t)`, `x(p)` being trilinear between the
    eight sites around p, absent ones 0. Positions are the same for all sites, so the sum is one
    over whole voxels with the effective weights `E[v] = sum over t of prod over axes of
    max(0, 1 - |p_t - v|) W_t`, and costs what a convolution costs. On whole voxels it is
    `SubMConv3d`. There the gradient of a position is that towards the next voxel.

    Positions are held within `reach` voxels of the site. In eager mode only voxels that a
    synapse touches are convolved: their rulebook is made anew when a position passes a voxel.
    Which these are is read from the parameter, on a GPU waiting for it once after each change of
    the parameter; a traced graph convolves all `(2 reach + 1)^3` and reads nothing. With a
    stride s, outputs are the blocks of s^3 voxels that hold a site. Leave positions out of weight
    decay, and give them a hundredth of the other parameters' rate, as the authors did.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: the grid synapses begin on, or whose box they begin in.
        stride: voxels, an int or three.
        groups: G, a divisor of C and D.
        position_groups: groups of output channels with positions of their own.
        init: where synapses begin: `"grid"`, `"sphere"` or `"random"`.
        num_synapses: T; None for all taps of the grid or box, or 7 about the sphere.
        reach: voxels, an int or three; None for one more than the grid's.
        normalize_grad: whether a position's gradient has length 1.
        fix_center: whether synapses that begin at the site stay there.
        bias: whether to add a bias.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        ValueError: an argument is out of range.

    Source:
        Jeon and Kim, "Active Convolution: Learning the Shape of Convolution for Image
        Classification", arXiv:1703.09076, of images; here over voxels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        groups: int = 1,
        position_groups: int = 1,
        init: str = "grid",
        num_synapses: int | None = None,
        reach: int | Sequence[int] | None = None,
        normalize_grad: bool = True,
        fix_center: bool = True,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            expected = f"a divisor of in_channels {in_channels} and out_channels {out_channels}"
            raise ValueError(complain("groups", expected, f"{groups}"))
        if position_groups < 1 or out_channels % position_groups:
            expected = f"a divisor of {out_channels} output channels"
            raise ValueError(complain("position_groups", expected, f"{position_groups}"))
        kernel = triple("kernel_size", kernel_size, least=1)
        start = start_positions(init, kernel, num_synapses, position_groups)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        if reach is None:
            self.reach = tuple(0 if k == 1 and init != "sphere" else k // 2 + 1 for k in kernel)
        else:
            self.reach = triple("reach", reach, least=0)
        self.normalize_grad = normalize_grad
        size = tuple(2 * r + 1 for r in self.reach)
        self.box = Geometry.make(size, triple("stride", stride, least=1), self.reach)
        factory = {"device": device, "dtype": dtype}
        synapses = start.shape[1]
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, synapses, **factory)
        )
        self.positions = nn.Parameter(start.to(device=device, dtype=self.weight.dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels, **factory))
        else:
            self.register_parameter("bias", None)
        fixed = (start == 0).all(2, keepdim=True) & fix_center
        self.register_buffer("fixed", fixed.to(device=device), persistent=False)
        # of a parameter on a GPU: what its touched voxels were read from
        self._read: tuple[tuple[int, int], list[int]] | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights as torch's convolutions do; positions stay."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def _held(self) -> Tensor:  # [groups, T, 3]
        """Return positions within reach, through which gradients flow as they should."""
        p = self.positions
        if self.normalize_grad:
            p = _UnitGradient.apply(p)
        p = torch.where(self.fixed, p.detach(), p).to(torch.promote_types(p.dtype, torch.float32))
        far = torch.tensor(self.reach, dtype=p.dtype, device=p.device)
        return torch.minimum(torch.maximum(p, -far), far)

    def shares(self) -> Tensor:  # [groups, T, U]
        """Return how much of each synapse each voxel of the box takes."""
        parts = []
        for held, reach in zip(self._held().unbind(2), self.reach, strict=True):
            at = torch.arange(-reach, reach + 1, dtype=held.dtype, device=held.device)
            if reach == 0:
                parts.append(torch.ones_like(held)[..., None])
                continue
            # both voxels beside a position, even one it lies on, for the sake of its gradient
            low = held.detach().floor().clamp(-reach, reach - 1)[..., None]
            above = held[..., None] - low
            parts.append(
                torch.where(at == low, 1 - above, 0) + torch.where(at == low + 1, above, 0)
            )
        x, y, z = parts
        return (x[..., :, None, None] * y[..., None, :, None] * z[..., None, None, :]).flatten(2)

    def effective(self, voxels: list[int] | None = None) -> Tensor:  # [U, C / G, D]
        """Return the weights of voxels of the box, all of them where none are named."""
        shares = self.shares()
        if voxels is not None:
            shares = shares[:, :, voxels]
        groups, synapses, _ = shares.shape
        own = self.weight.reshape(groups, -1, self.weight.shape[1], synapses)
        with torch.autocast(own.device.type, enabled=False):
            weight = torch.einsum("gtu,goct->ucgo", shares.to(own.dtype), own)
        return weight.flatten(2)

    def frozen(self) -> SubMConv3d:
        """Return the ordinary convolution this layer is now, whose positions learn no more.

        Raises:
            ValueError: the layer has a stride.
        """
        if self.box.stride != (1, 1, 1):
            raise ValueError(complain("stride", "1", f"{self.box.stride}"))
        weight = self._box_weight().detach()
        conv = SubMConv3d(
            self.in_channels,
            self.out_channels,
            self.box.size,
            groups=self.groups,
            bias=self.bias is not None,
            device=weight.device,
            dtype=weight.dtype,
        )
        with torch.no_grad():
            conv.weight.copy_(weight)
            if self.bias is not None:
                conv.bias.copy_(self.bias)
        return conv

    def _box_weight(self) -> Tensor:  # [D, C / G, kx, ky, kz]
        return self.effective().permute(2, 1, 0).unflatten(2, self.box.size)

    def _touched(self) -> list[int]:
        """Return the voxels of the box that some synapse lies beside, read from the parameter."""
        p = self.positions
        state = (p.data_ptr(), p._version)
        if p.device.type != "cpu" and self._read is not None and self._read[0] == state:
            return self._read[1]
        voxels = set()
        for position in p.detach().flatten(0, 1).tolist():
            beside = []
            for at, reach in zip(position, self.reach, strict=True):
                low = min(max(math.floor(min(max(at, -reach), reach)), -reach), max(reach - 1, 0))
                beside.append((low + reach, low + reach + 1) if reach else (0,))
            _, ky, kz = self.box.size
            voxels |= {(x * ky + y) * kz + z for x, y, z in product(*beside)}
        self._read = state, sorted(voxels)
        return self._read[1]

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Return [M, D], or dense [B, D, X', Y', Z'] with every extent n going to ceil(n / s)."""
        self.check_input(x)
        box = self.box
        if isinstance(x, Tensor):
            weight = self._box_weight()
            return dense.conv3d(x, weight, self.bias, box.stride, box.padding, 1, self.groups)
        target = x.level if box.stride == (1, 1, 1) else parents(x, box.stride)
        geometry, voxels = box, None
        if not torch.compiler.is_compiling():
            touched = self._touched()
            if len(touched) < box.taps:
                voxels = touched
                taps = tuple(tuple(box.offsets[3 * v : 3 * v + 3]) for v in voxels)
                geometry = Offsets(taps, box.stride)
        book = x.topology.rulebook(x.level, target, geometry)
        taps = self.effective(voxels)
        return over_rulebook(x, taps, self.bias, book, x.topology, target, self.groups)

    def extra_repr(self) -> str:
        """Return channels, synapses and reach."""
        return (
            f"{self.in_channels}, {self.out_channels}, synapses={self.positions.shape[1]}, "
            f"reach={self.reach}"
        )


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    kind = {"init": "random", "reach": 1, "normalize_grad": False, "fix_center": False}
    return ActiveConv3d(in_channels, out_channels, 3, **kind)


FAMILIES = (
    Family(
        number=27,
        key="active",
        title="Active convolution",
        layer=ActiveConv3d,
        paper="arXiv:1703.09076",
        summary="A convolution whose taps lie between voxels, at positions that are learned and "
        "the same everywhere.",
        formula="y[o] = b + sum over synapses t of W_t x(site(o) + p_t), x(p) trilinear; the same "
        "as a convolution with E[v] = sum over t of prod of max(0, 1 - |p_t - v|) W_t",
        on_sparse="Absent sites count as 0 in the interpolation, as on the zero-filled grid. In a "
        "net: 27 synapses within one voxel, the cost of a 3x3x3 convolution.",
        use_when="To learn the shape of a kernel, such as a wide one with few weights.",
        primitives=("rulebook", "cube_rulebook", "conv"),
        make=_make,
    ),
)
