"""What a scan costs at a voxel size: voxels, neighbours, memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from sparseconv.io.point_cloud import PointCloud
    from sparseconv.models.mink_unet import MinkUNet
    from sparseconv.tensor.sparse_tensor import SparseTensor

FLOAT = 4
SITE_BYTES = 16 + 32
PAIR_BYTES = 8
ALLOWANCE = 1.75


@dataclass(frozen=True)
class Cost:
    """What a scan costs at one voxel size.

    Args:
        voxel: edge, in the unit of the scan.
        voxels: occupied voxels.
        neighbours: mean number of occupied voxels in the 3 x 3 x 3 around one, with itself.
        small: bytes that `MinkUNetSmall` needs for one prediction.
        standard: bytes that `MinkUNet` needs.
    """

    voxel: float
    voxels: int
    neighbours: float
    small: int
    standard: int


def costs(cloud: PointCloud, sizes: Sequence[float]) -> Iterator[Cost]:
    """Yield the cost of a scan at every voxel size.

    Args:
        cloud: at least one finite point.
        sizes: edges of voxels, in the unit of the scan.
    """
    import numpy as np
    import torch

    from sparseconv.models.mink_unet import MinkUNet, MinkUNetSmall
    from sparseconv.transforms.voxelize import voxelize

    xyz = cloud.xyz[np.isfinite(cloud.xyz).all(axis=1)]
    xyz = xyz - xyz.min(axis=0)
    # parameters on this device have a shape and no memory
    with torch.device("meta"):
        nets = [MinkUNetSmall(4, 20), MinkUNet(4, 20)]
    for voxel in sizes:
        x, _ = voxelize(xyz, voxel)
        sites, pairs = pyramid(x, levels=max(len(net.down) for net in nets))
        small, standard = (net_memory(net, sites, pairs) for net in nets)
        yield Cost(voxel, len(x), pairs[0] / len(x), small, standard)


def pyramid(x: SparseTensor, levels: int) -> tuple[list[int], list[int]]:
    """Return the sites and the 3 x 3 x 3 pairs of a tensor and of its halvings.

    Args:
        x: at least one site.
        levels: how often the lattice is halved.

    Returns:
        Two lists of `levels + 1` numbers.
    """
    from sparseconv.geometry import Geometry
    from sparseconv.tensor.topology import ROOT, Level, Topology

    same = Geometry((3, 3, 3), padding=(1, 1, 1))
    halve = Geometry((2, 2, 2), stride=(2, 2, 2))
    topology = Topology.of(Level(x.coords, (1, 1, 1), None, 1))
    name, sites, pairs = ROOT, [], []
    for _ in range(levels + 1):
        sites.append(len(topology.levels[name].coords))
        pairs.append(len(topology.rulebook(name, name, same)))
        name = topology.down(name, halve)
    return sites, pairs


def net_memory(net: MinkUNet, sites: Sequence[int], pairs: Sequence[int]) -> int:
    """Estimate the bytes that a U-Net needs to predict one scan, beside the program itself.

    bytes = 4 W + 1.75 (sum_l (4 S_l c_l + 48 S_l + 8 (P_l + S_l)) + max_l 4 S_l (w_l + 4 d_l))

    with W weights; S_l sites and P_l pairs of the 3 x 3 x 3 rulebook of level l; c_l channels of
    the features kept for the way up; w_l channels of the widest tensor at the level, which are
    the two joined ones, and d_l those of what a residual block makes of it, of which four live
    at once. Sites cost 16 bytes and 32 for their index; a pair costs 8, and every site is in one
    pair of the rulebook that halves it. The factor stands for the kernels' own memory and for
    what the allocator keeps: peaks measured with the compiled kernels on a room and a street at
    two voxel sizes each were at most 1.25 times the estimate.

    Args:
        net: the network; its weights may be without memory.
        sites: S_l of every level, the finest first.
        pairs: P_l of every level.

    Returns:
        Bytes, for float32.
    """
    weights = sum(parameter.numel() for parameter in net.parameters())
    kept = [net.stem[0][0].weight.shape[0]] + [stage_width(stage) for stage in net.encode]
    out = [*(stage_width(stage) for stage in reversed(net.decode)), kept[-1]]
    joined = [a + b for a, b in zip(kept[:-1], out[:-1], strict=True)] + [2 * kept[-1]]
    steady = sum(
        FLOAT * s * c + SITE_BYTES * s + PAIR_BYTES * (p + s)
        for s, c, p in zip(sites, kept, pairs, strict=False)
    )
    working = max(FLOAT * s * (w + 4 * d) for s, w, d in zip(sites, joined, out, strict=False))
    return int(FLOAT * weights + ALLOWANCE * (steady + working))


def stage_width(stage: object) -> int:
    """Return the channels that come out of a stage of residual blocks."""
    return stage[-1].second[0].weight.shape[0]


def telling_sizes(xyz: np.ndarray, count: int = 4) -> list[float]:
    """Return round voxel sizes for a scan, from where voxels begin to hold several points.

    Args:
        xyz: points [N, 3], at least one of them finite.
        count: how many sizes.

    Returns:
        Sizes of the series 1, 2, 5, 10, ..., rising.
    """
    import numpy as np

    xyz = xyz[np.isfinite(xyz).all(axis=1)]
    xyz = xyz - xyz.min(axis=0)
    reach = float(xyz.max())
    if reach == 0:
        return [1.0]
    series = [m * 10.0**e for e in range(-9, 10) for m in (1, 2, 5)]
    first = next(i for i, step in enumerate(series) if step > reach / 2**20)
    while first + count < len(series) and series[first] < reach / 4:
        sites = np.floor(xyz / series[first]).astype(np.int64)
        key = (sites[:, 0] << 42) | (sites[:, 1] << 21) | sites[:, 2]
        if len(np.unique(key)) < 0.7 * len(xyz):
            break
        first += 1
    return [float(f"{step:.6g}") for step in series[first : first + count]]
