"""KernelWarehouse: kernels put together from cells that several layers share."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod

import torch
from torch import Tensor, nn

from sparseconv._errors import complain
from sparseconv.functional.linear import traceable_linear
from sparseconv.geometry import Triple
from sparseconv.nn.conv._per_item import Annealed, PerItemConvolution, Trunk
from sparseconv.nn.conv._sites import Padding
from sparseconv.nn.family import Family
from sparseconv.tensor.sparse_tensor import SparseTensor

# added to the sum of absolute shares, so that it can be divided by
LEAST = 1e-3


class KernelWarehouse(nn.Module):
    """Cells, small matrices of weights, that the layers reserved from it share.

    Reserve layers in any order, then call `store()`, which sizes the cells by all of them: the
    greatest common divisors of their channels, and one tap. The warehouse holds the parameters:
    register it once in the net, beside the layers.

    Args:
        cell_num_ratio: cells for every part of a kernel: a whole number, or one part of a whole
            such as 1 / 2, where parts share cells from the beginning.
        reduction: the attention has max(int(C * reduction), 16) hidden channels.
        norm: `"batch"` as published, or `"layer"`, which trains on one scan too.
        temperature: 1 for kernels that are a layer's own cells, 0 for kernels made of attention
            alone; published training lowers it from 1 to 0 over the first 20 epochs.
        nonlocal_basis_ratio: below 1, a layer's shares of the F cells of other layers are made of
            max(int(F * nonlocal_basis_ratio), 16) numbers a part, which spares parameters where
            many layers share a warehouse.
        cell_in_ratio: channels a cell reads, in parts of their greatest common divisor.
        cell_out_ratio: channels a cell makes, in parts of theirs.
        spatial_partition: False for cells that have all taps, for layers of one kernel size.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> warehouse = KernelWarehouse(norm="layer")
        >>> a, b = (warehouse.reserve(8, width, 3, padding="subm") for width in (8, 16))
        >>> warehouse.store()
        >>> warehouse
        KernelWarehouse(
          cells=81, cell=8x8
          (temperature): Annealed(1)
        )

    Source:
        Li and Yao, "KernelWarehouse: Rethinking the Design of Dynamic Convolution",
        arXiv:2406.07879.
    """

    def __init__(
        self,
        cell_num_ratio: float = 1.0,
        reduction: float = 1 / 16,
        norm: str = "batch",
        temperature: float = 1.0,
        nonlocal_basis_ratio: float = 1.0,
        cell_in_ratio: float = 1.0,
        cell_out_ratio: float = 1.0,
        spatial_partition: bool = True,
    ) -> None:
        super().__init__()
        self.cell_ratios = {"cell_in_ratio": cell_in_ratio, "cell_out_ratio": cell_out_ratio}
        self.spatial_partition = spatial_partition
        if not nonlocal_basis_ratio > 0:
            expected, found = "a number above 0", f"{nonlocal_basis_ratio}"
            raise ValueError(complain("nonlocal_basis_ratio", expected, found))
        self.nonlocal_basis_ratio = nonlocal_basis_ratio
        whole = cell_num_ratio if cell_num_ratio >= 1 else 1 / max(cell_num_ratio, 1e-9)
        if abs(whole - round(whole)) > 1e-6 * whole or cell_num_ratio <= 0:
            expected = "a whole number, or 1 divided by one"
            raise ValueError(complain("cell_num_ratio", expected, f"{cell_num_ratio}"))
        self.cell_num_ratio, self.reduction, self.norm = cell_num_ratio, reduction, norm
        self.temperature = Annealed(temperature)
        self.register_parameter("cells", None)
        # not modules of this one: it is they who are part of a net
        self._reserved: tuple[list[KWConv3d], ...] = ([],)

    def reserve(self, *args: object, **options: object) -> KWConv3d:
        """Return a layer that takes its kernel from here; arguments as for `KWConv3d`.

        Raises:
            ValueError: the cells are stored already.
        """
        if self.cells is not None:
            cure = "reserve all layers first"
            raise ValueError(complain("reserve", "a warehouse not yet stored", "cells", cure))
        layer = KWConv3d(*args, warehouse=self, **options)
        self._reserved[0].append(layer)
        return layer

    def store(
        self,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Make the cells, and each layer's map to shares of them.

        Args:
            device: where the cells live.
            dtype: their dtype.

        Raises:
            ValueError: no layer was reserved, the cells are stored already, or layers of several
                kernel sizes, or a part of no whole channels, were asked for.
        """
        layers, *_ = self._reserved
        if self.cells is not None or not layers:
            found = "cells" if layers else "none"
            raise ValueError(complain("store", "layers reserved, and no cells yet", found))
        rows = self._part("cell_in_ratio", [a.in_channels // a.groups for a in layers])
        width = self._part("cell_out_ratio", [layer.out_channels for layer in layers])
        sizes = {layer.geometry.size for layer in layers}
        if len(sizes) > 1 and not self.spatial_partition:
            expected, found = "layers of one kernel size", f"{sorted(sizes)}"
            raise ValueError(complain("spatial_partition", expected, found))
        box = (1, 1, 1) if self.spatial_partition else layers[0].geometry.size
        numbers = rows * width * prod(box)
        counts = [layer.numbers // numbers for layer in layers]
        ratio = self.cell_num_ratio
        own = [round(m * ratio) if ratio >= 1 else -(-m // round(1 / ratio)) for m in counts]
        stored = torch.empty(sum(own), *box, rows, width, device=device, dtype=dtype)
        # torch's order of axes, the memory order of the kernels
        self.cells = nn.Parameter(stored.permute(0, 5, 4, 1, 2, 3))
        start = 0
        for layer, mixtures, mine in zip(layers, counts, own, strict=True):
            spread = (2 / (mine * width * prod(box))) ** 0.5
            nn.init.normal_(self.cells[start : start + mine], std=spread)
            layer.allot(start, mine, mixtures, sum(own), ratio, device=device, dtype=dtype)
            start += mine
        self._reserved[0].clear()

    def _part(self, name: str, channels: list[int]) -> int:
        """Return the channels of a cell."""
        common, ratio = gcd(*channels), self.cell_ratios[name]
        part = round(common * ratio)
        if not 0 < ratio <= 1 or abs(part - common * ratio) > 1e-6 or common % max(part, 1):
            expected = f"a whole part of {common}, the channels' greatest common divisor"
            raise ValueError(complain(name, expected, f"{ratio}"))
        return part

    def set_temperature(self, value: float) -> None:
        """Set how much of each kernel is fixed: 1 for all, 0 for none.

        Raises:
            ValueError: it is not within 0 and 1.
        """
        if not value <= 1:
            raise ValueError(complain("temperature", "a number within 0 and 1", f"{value}"))
        self.temperature.set(value)

    def extra_repr(self) -> str:
        """Return how many cells there are, of which size."""
        if self.cells is None:
            return "not stored"
        return f"cells={self.cells.shape[0]}, cell={self.cells.shape[2]}x{self.cells.shape[1]}"


class KWConv3d(PerItemConvolution):
    """Convolve every scan with a kernel put together from cells of a warehouse.

    The kernel is cut into m parts, for each tap blocks of C / G by D channels. Part i of scan b is
    `sum over j of a[b, i, j] cell[j]`, with `a = T beta + (1 - T) z / (sum over j of |z|)`: z is a
    linear map of `relu(norm(fc(mean(x))))`, which may be negative, beta gives each part a cell of
    its own, and T is the warehouse's temperature. z has one entry more a part, which stands for a
    cell of zeros. Where the warehouse has a `nonlocal_basis_ratio` below 1, the entries of other
    layers' cells are one more linear map, the same for all parts, of fewer numbers a part.

    Args:
        in_channels: C.
        out_channels: D.
        kernel_size: taps per axis, an int or three.
        stride: voxels, an int or three.
        padding: voxels, an int or three, `"same"`, `"valid"`, or `"subm"` to keep the input's
            sites.
        dilation: voxels between taps, an int or three.
        groups: G.
        bias: whether to add a bias.
        pool: `"active"` or `"volume"`; see `PerItemConvolution`.
        warehouse: where the cells are, which the net registers; None for one of the layer's own,
            with `warehouse_options`.
        warehouse_options: keyword arguments of that `KernelWarehouse`.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Source:
        Li and Yao, arXiv:2406.07879.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        pool: str = "active",
        *,
        warehouse: KernelWarehouse | None = None,
        warehouse_options: dict | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, pool
        )
        factory = {"device": device, "dtype": dtype}
        own = KernelWarehouse(**(warehouse_options or {})) if warehouse is None else warehouse
        self._shared = (own,)
        hidden = max(int(in_channels * own.reduction), 16)
        self.trunk = Trunk(in_channels, hidden, own.norm, **factory)
        self.bias = nn.Parameter(torch.zeros(out_channels, **factory)) if bias else None
        self.fc2: nn.Linear | None = None
        self.basis: nn.Linear | None = None
        self.register_parameter("basis_bias", None)
        if warehouse is None:
            self.warehouse = own
            own._reserved[0].append(self)
            own.store(**factory)

    def allot(
        self, start: int, mine: int, mixtures: int, cells: int, ratio: float, **factory: object
    ) -> None:
        """Take `mine` cells from `start` on for the layer's own parts; `store` calls this."""
        hidden, share, others = self.trunk.fc.out_features, cells + 1, cells - mine
        if self._shared[0].nonlocal_basis_ratio < 1 and others:
            count = max(int(others * self._shared[0].nonlocal_basis_ratio), 16)
            share = mine + count + 1
            self.basis = nn.Linear(count, others, bias=False, **factory)
            self.basis_bias = nn.Parameter(torch.zeros(mixtures, cells + 1, **factory))
            nn.init.kaiming_normal_(self.basis.weight, mode="fan_out", nonlinearity="relu")
        self.fc2 = nn.Linear(hidden, mixtures * share, self.basis is None, **factory)
        nn.init.kaiming_normal_(self.fc2.weight, mode="fan_out", nonlinearity="relu")
        if self.fc2.bias is not None:
            nn.init.zeros_(self.fc2.bias)
        self._own = start, mine
        part = torch.arange(mixtures)
        if ratio >= 1:
            given = start + part * round(ratio)
        else:
            # one part of every 1 / ratio gets a cell, a later one each time; the others zeros
            every = round(1 / ratio)
            chosen = part % every == part // every % every
            given = torch.where(chosen, start + part // every, cells)
        beta = torch.nn.functional.one_hot(given, cells + 1).to(self.fc2.weight)
        self.register_buffer("beta", beta, persistent=False)

    def shares(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> Tensor:  # [B, m, cells]
        """Return what part of every cell is in each part of every scan's kernel.

        Raises:
            ValueError: the warehouse has not stored its cells.
        """
        if self.fc2 is None:
            cure = "call warehouse.store() when all layers are reserved"
            raise ValueError(complain("warehouse", "stored cells", "none yet", cure))
        z = self.fc2(self.trunk(self.mean(x))).unflatten(1, (self.beta.shape[0], -1))
        if self.basis is not None:
            start, mine = self._own
            own, fewer, none = z.split((mine, z.shape[2] - mine - 1, 1), 2)
            others = self.basis(fewer)
            z = torch.cat([others[..., :start], own, others[..., start:], none], 2)
            z = z + self.basis_bias
        z = z / (z.abs().sum(2, keepdim=True) + LEAST)
        fixed = self._shared[0].temperature.value.to(z.dtype)
        return (fixed * self.beta + (1 - fixed) * z)[..., :-1]

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C] or [B, C, X, Y, Z]
    ) -> SparseTensor | Tensor:
        """Return [M, D], or dense [B, D, X', Y', Z'].

        Raises:
            ValueError: the warehouse has not stored its cells, or one scan is to be trained on
                with `norm="batch"`.
        """
        self.check_input(x)
        shares, cells = self.shares(x), self._shared[0].cells
        size, (count, width, rows, *box) = shares.shape[0], cells.shape
        flat = cells.permute(0, 3, 4, 5, 2, 1).reshape(count, -1)
        parts = traceable_linear(shares.to(flat.dtype).reshape(-1, count), flat.t(), None)
        taps, per_group = self.geometry.taps, self.in_channels // self.groups
        # parts run over taps, blocks of D, blocks of C / G; a cell over its taps, C / G, D
        whole = prod(box)
        blocks = taps // whole, self.out_channels // width, per_group // rows
        parts = parts.reshape(size, *blocks, whole, rows, width)
        weight = parts.permute(0, 1, 4, 3, 5, 2, 6).reshape(size, taps, per_group, -1)
        bias = None if self.bias is None else self.bias.expand(size, -1)
        return self.convolve(x, weight, bias)

    def extra_repr(self) -> str:
        """Return the arguments, and the sizes of a scan's kernel and of its shares."""
        if self.fc2 is None:
            return f"{super().extra_repr()}, not stored"
        return f"{super().extra_repr()}, shares={self.beta.shape[0]}x{self.beta.shape[1] - 1}"


def _make(in_channels: int, out_channels: int, spatial_shape: Triple | None) -> nn.Module:
    options = {"norm": "layer", "temperature": 0.5}
    return KWConv3d(in_channels, out_channels, 3, padding="subm", warehouse_options=options)


FAMILIES = (
    Family(
        number=32,
        key="kernel_warehouse",
        title="KernelWarehouse",
        layer=KWConv3d,
        paper="arXiv:2406.07879",
        summary="Every scan is convolved with a kernel of its own, put together from small cells "
        "that the layers of a stage may share.",
        formula="y[n] = sum over taps t of W[b, t] x[site(n) + offset(t)], part i of W[b] = sum "
        "over j of (T beta[i, j] + (1 - T) z[b, i, j] / sum over j of |z[b, i, j]|) cell[j], "
        "z from the mean of scan b",
        on_sparse="The mean runs over a scan's active sites, so kernels do not depend on how much "
        "space is empty; with pool='volume' the layer equals its dense form on the zero-filled "
        "grid. Absent neighbours add 0.",
        use_when="For many kernels out of few parameters, in nets with several layers of like "
        "width; reserve them from one KernelWarehouse and lower its temperature while training.",
        primitives=("rulebook", "split_by_item", "aggregate", "conv"),
        make=_make,
    ),
)
