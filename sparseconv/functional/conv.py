"""Convolutions of sparse tensors: submanifold, regular, transposed, inverse, onto given sites."""

from __future__ import annotations

from torch import Tensor

from sparseconv._errors import complain
from sparseconv.functional.normed import Norm, normed_conv
from sparseconv.geometry import Geometry, Triple
from sparseconv.tensor.rulebook import Rulebook
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.tensor.topology import Topology


def by_tap(
    weight: Tensor,  # [D, C / G, kx, ky, kz]
) -> Tensor:  # [K, C / G, D]
    """Arrange torch's convolution weight by tap: a view where the layer chose its memory order."""
    width, per_group, kx, ky, kz = weight.shape
    return weight.permute(2, 3, 4, 1, 0).reshape(kx * ky * kz, per_group, width)


def by_tap_transposed(
    weight: Tensor,  # [C, D / G, kx, ky, kz]
    groups: int,
) -> Tensor:  # [K, C / G, D]
    """Arrange torch's transposed-convolution weight by tap."""
    channels, per_group, kx, ky, kz = weight.shape
    taps = kx * ky * kz
    if groups == 1:
        return weight.permute(2, 3, 4, 0, 1).reshape(taps, channels, per_group)
    split = weight.reshape(groups, channels // groups, per_group, taps)
    return split.permute(3, 1, 0, 2).reshape(taps, channels // groups, groups * per_group)


def onto_level(x: SparseTensor, sites: SparseTensor, geometry: Geometry) -> Rulebook:
    """Return the rulebook from the sites of `x` to those of another tensor."""
    if sites.topology is x.topology:
        return x.topology.rulebook(x.level, sites.level, geometry)
    return x.topology.pairs(x.level, sites.coords, geometry.offsets, geometry.stride)


def from_level(x: SparseTensor, sites: SparseTensor, geometry: Geometry) -> Rulebook:
    """Return the rulebook of a transposed convolution from `x` onto the sites of another tensor."""
    return onto_level(sites, x, geometry).reversed


def over_rulebook(
    x: SparseTensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    book: Rulebook,
    topology: Topology,
    level: str,
    groups: int,
    *,
    norm: Norm | None = None,
    residual: Tensor | None = None,  # [M, D]
    relu: bool = False,
) -> SparseTensor:  # [M, D]
    """Convolve over a rulebook onto a level of a topology."""
    num_out = topology.levels[level].coords.shape[0]
    depthwise = groups > 1 and groups == weight.shape[2] and weight.shape[1] == 1
    # off the CPU nothing reads it
    listed = depthwise and x.features.device.type == "cpu"
    features = normed_conv(
        x.features,
        weight,
        bias,
        book.in_rows,
        book.out_rows,
        book.segments,
        num_out,
        groups,
        symmetric=book.symmetric,
        by_row=book.by_row(num_out) if listed else None,
        norm=norm,
        residual=residual,
        relu=relu,
    )
    return SparseTensor.at(topology, level, features)


def check_sites(x: SparseTensor, sites: SparseTensor, stride: Triple) -> None:
    """Refuse target sites whose lattice is not the one the convolution arrives at."""
    if sites.stride != stride or sites.batch_size != x.batch_size:
        raise ValueError(
            complain(
                "sites",
                f"stride {stride} and batch size {x.batch_size}",
                f"stride {sites.stride} and batch size {sites.batch_size}",
            )
        )


def submanifold_conv3d(
    x: SparseTensor,  # [N, C]
    weight: Tensor,  # [D, C / G, kx, ky, kz]
    bias: Tensor | None,  # [D]
    geometry: Geometry,
    *,
    groups: int = 1,
    rulebook: Rulebook | None = None,
    norm: Norm | None = None,
    add: Tensor | None = None,  # [N, D]
    relu: bool = False,
) -> SparseTensor:  # [N, D]
    """Convolve at the input sites alone: `y[n] = b + sum over taps of W[t] x[site + offset[t]]`.

    Equals `torch.nn.functional.conv3d(padding="same")` of the zero-filled grid, read at the sites.

    Args:
        x: [N, C].
        weight: [D, C / G, kx, ky, kz], as `torch.nn.Conv3d` has it.
        bias: [D].
        geometry: of the kernel; its stride is 1.
        groups: G.
        rulebook: use this one instead of the topology's.
        norm: normalises the result; in the same pass with running statistics and no gradient.
        add: added to the result.
        relu: whether to clip the sum below at 0. Without gradients neither takes a pass of its own.

    Returns:
        [N, D] at the sites of `x`.

    Raises:
        TypeError, ValueError: dtypes or channels do not fit.

    Source:
        Graham and van der Maaten, "Submanifold Sparse Convolutional Networks", arXiv:1706.01307.
    """
    book = rulebook
    if book is None:
        book = x.topology.rulebook(x.level, x.level, geometry)
    return over_rulebook(
        x,
        by_tap(weight),
        bias,
        book,
        x.topology,
        x.level,
        groups,
        norm=norm,
        residual=add,
        relu=relu,
    )


def conv3d(
    x: SparseTensor,  # [N, C]
    weight: Tensor,  # [D, C / G, kx, ky, kz]
    bias: Tensor | None,  # [D]
    geometry: Geometry,
    *,
    groups: int = 1,
    sites: SparseTensor | None = None,
    norm: Norm | None = None,
    add: Tensor | None = None,  # [M, D]
    relu: bool = False,
) -> SparseTensor:  # [M, D]
    """Convolve onto every site whose kernel meets an active site, or onto given sites.

    Equals `torch.nn.functional.conv3d` of the zero-filled grid at the output sites; elsewhere the
    dense result is the bias alone.

    Args:
        x: [N, C].
        weight: [D, C / G, kx, ky, kz].
        bias: [D], added at active output sites.
        geometry: of the kernel.
        groups: G.
        sites: a tensor whose sites the result shall have; its features are not read.
        norm: as for `submanifold_conv3d`.
        add: as for `submanifold_conv3d`.
        relu: as for `submanifold_conv3d`.

    Returns:
        [M, D], in Z-order or that of `sites`.

    Raises:
        TypeError, ValueError: dtypes, channels or lattices do not fit.

    Source:
        Graham, Engelcke, van der Maaten, arXiv:1711.10275, section 3.
    """
    if sites is None:
        topology, level = x.topology, x.topology.down(x.level, geometry)
        book = topology.rulebook(x.level, level, geometry)
    else:
        reached = tuple(a * b for a, b in zip(x.stride, geometry.stride, strict=True))
        check_sites(x, sites, reached)
        topology, level = sites.topology, sites.level
        book = onto_level(x, sites, geometry)
    return over_rulebook(
        x, by_tap(weight), bias, book, topology, level, groups, norm=norm, residual=add, relu=relu
    )


def conv_transpose3d(
    x: SparseTensor,  # [N, C]
    weight: Tensor,  # [C, D / G, kx, ky, kz]
    bias: Tensor | None,  # [D]
    geometry: Geometry,
    *,
    output_padding: Triple = (0, 0, 0),
    groups: int = 1,
    sites: SparseTensor | None = None,
    norm: Norm | None = None,
    add: Tensor | None = None,  # [M, D]
    relu: bool = False,
) -> SparseTensor:  # [M, D]
    """Apply the adjoint of `conv3d` onto every site a tap reaches, or onto given sites.

    `y[o * stride - padding + i * dilation] += W[i]^T x[o]`. Equals
    `torch.nn.functional.conv_transpose3d` of the zero-filled grid at the output sites.

    Args:
        x: [N, C].
        weight: [C, D / G, kx, ky, kz], as `torch.nn.ConvTranspose3d` has it.
        bias: [D], added at active output sites.
        geometry: of the kernel; its padding is taken from each side of the output.
        output_padding: voxels added at the far side of a bounded output lattice.
        groups: G.
        sites: a tensor whose sites the result shall have; its features are not read.
        norm: as for `submanifold_conv3d`.
        add: as for `submanifold_conv3d`.
        relu: as for `submanifold_conv3d`.

    Returns:
        [M, D], in Z-order or that of `sites`.

    Raises:
        TypeError, ValueError: dtypes, channels or lattices do not fit.

    Source:
        Dumoulin and Visin, "A guide to convolution arithmetic", arXiv:1603.07285, chapter 4.
    """
    if sites is None:
        topology, level = x.topology, x.topology.up(x.level, geometry, output_padding)
        book = topology.rulebook(level, x.level, geometry).reversed
    else:
        if tuple(a * b for a, b in zip(sites.stride, geometry.stride, strict=True)) != x.stride:
            raise ValueError(
                complain(
                    "sites",
                    f"a stride that times {geometry.stride} gives {x.stride}",
                    f"stride {sites.stride}",
                )
            )
        check_sites(x, sites, sites.stride)
        topology, level = sites.topology, sites.level
        book = from_level(x, sites, geometry)
    taps = by_tap_transposed(weight, groups)
    return over_rulebook(
        x, taps, bias, book, topology, level, groups, norm=norm, residual=add, relu=relu
    )


def inverse_conv3d(
    x: SparseTensor,  # [M, C]
    weight: Tensor,  # [C, D / G, kx, ky, kz]
    bias: Tensor | None,  # [D]
    *,
    groups: int = 1,
    norm: Norm | None = None,
    add: Tensor | None = None,  # [N, D]
    relu: bool = False,
) -> SparseTensor:  # [N, D]
    """Go back to the sites a strided convolution came from, reading its rulebook backwards.

    `y[i] = b + sum over recorded pairs (i, o) of tap t of W[t]^T x[o]`.

    Args:
        x: [M, C], at sites that a strided convolution or pooling made.
        weight: [C, D / G, kx, ky, kz], of that convolution's kernel size.
        bias: [D].
        groups: G.
        norm: as for `submanifold_conv3d`.
        add: as for `submanifold_conv3d`.
        relu: as for `submanifold_conv3d`.

    Returns:
        [N, D] at the input sites of that convolution.

    Raises:
        ValueError: the sites of `x` were not made by a convolution, or its kernel size differs.

    Source:
        Graham, Engelcke, van der Maaten, arXiv:1711.10275 (deconvolution).
    """
    source, geometry = x.topology.origin(x.level)
    if tuple(weight.shape[2:]) != geometry.size:
        raise ValueError(
            complain(
                "kernel_size",
                f"{geometry.size}, the kernel size of the convolution that made these sites",
                f"{tuple(weight.shape[2:])}",
            )
        )
    book = x.topology.rulebook(source, x.level, geometry).reversed
    taps = by_tap_transposed(weight, groups)
    return over_rulebook(
        x, taps, bias, book, x.topology, source, groups, norm=norm, residual=add, relu=relu
    )
