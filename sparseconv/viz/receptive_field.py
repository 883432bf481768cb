"""Which sites an output of a layer depends on, and how strongly; and a picture of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.viz import raster
from sparseconv.viz.camera import Camera, aim
from sparseconv.viz.orientation import horizontal_axes
from sparseconv.viz.palette import ramp_rgb
from sparseconv.viz.snapshot import BACKGROUNDS, draw_points, write_png
from sparseconv.viz.voxels import SIDE, voxel_points

UNREAD = (205, 208, 212)
CENTRE = (220, 40, 60)


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """What one output of a layer depends on.

    Attributes:
        coords: int32 [N, 4], sites of the input.
        strength: float [N], the root of the sum of squared derivatives of all output channels
            at `site` with respect to all channels of each input site.
        site: batch, x, y, z of the output, in voxels of the input's lattice.
    """

    coords: Tensor  # [N, 4] int32
    strength: Tensor  # [N]
    site: tuple[int, int, int, int]

    @property
    def reached(self) -> Tensor:
        """Which sites the output depends on, bool [N]."""
        return self.strength > 0

    def snapshot(
        self,
        path: str | Path,
        *,
        radius: int = 8,
        size: tuple[int, int] = (640, 480),
        background: str = "white",
        up: Sequence[float] = (0, 0, 1),
    ) -> Path:
        """Write a picture: voxels as cubes, those read coloured by strength, the site red.

        Args:
            path: the file to write, ending in .png.
            radius: how far around the site voxels are drawn, voxels.
            size: width and height, pixels.
            background: `"white"` or `"dark"`.
            up: direction that points up in the picture, xyz.

        Returns:
            The path.

        Raises:
            ValueError: not a .png file, a radius below 1, or no such background.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise ValueError(complain("path", "a file ending in .png", path.name, "add .png"))
        write_png(path, self.render(radius=radius, size=size, background=background, up=up))
        return path

    def render(
        self,
        *,
        radius: int = 8,
        size: tuple[int, int] = (640, 480),
        background: str = "white",
        up: Sequence[float] = (0, 0, 1),
    ) -> np.ndarray:
        """Return the picture `snapshot` writes, uint8 [height, width, 3]; same arguments."""
        if radius < 1:
            raise ValueError(complain("radius", "voxels, at least 1", repr(radius)))
        if background not in BACKGROUNDS:
            known = " or ".join(map(repr, BACKGROUNDS))
            raise ValueError(complain("background", known, repr(background)))
        centre = np.array(self.site[1:])
        xyz = self.coords[:, 1:].cpu().numpy().astype(np.int64) - centre
        near = (np.abs(xyz).max(1) <= radius) & (self.coords[:, 0].cpu().numpy() == self.site[0])
        xyz, strength = xyz[near], self.strength.detach().cpu().double().numpy()[near]
        rgb = np.tile(np.array(UNREAD, dtype=np.uint8), (len(xyz), 1))
        read = strength > 0
        if read.any():
            # a root, so that the faint rim of a field is seen beside its middle
            rgb[read] = ramp_rgb(np.sqrt(strength[read] / strength.max()), "strength")
        rgb[(xyz == 0).all(1)] = CENTRE
        upward = np.array(up, dtype=np.float64) / np.linalg.norm(up)
        points, colours = voxel_points(xyz, rgb, upward)
        camera = _towards(points, colours, upward, size)
        # the diagonal of the grid on a face, as large as it gets at the near side
        pitch = camera.focal(size[1]) / np.linalg.norm(points - camera.eye, axis=1).min() / SIDE
        dot = 1.9 * float(pitch)
        return draw_points(points, colours, camera, size, dot, BACKGROUNDS[background], None)


def receptive_field(
    layer: Callable[[SparseTensor], SparseTensor],
    x: SparseTensor,  # [N, C]
    site: int | Sequence[int],
) -> ReceptiveField:
    """Return which input sites one output of a layer depends on, and how strongly.

    `strength[n] = sqrt(sum over output channels d, input channels c of
    (dy[site, d] / dx[n, c])^2)`, by one backward pass for every output channel.

    Args:
        layer: maps sparse tensors to sparse tensors; a whole net will do.
        x: [N, C], floating; the field of a layer that is not linear depends on its features.
        site: row of the output, or its batch, x, y, z in voxels of the output's lattice.

    Returns:
        Strengths of all sites of `x`.

    Raises:
        ValueError: the output has no such site.

    Example:
        >>> from sparseconv.nn.conv.submanifold import SubMConv3d
        >>> coords = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 5]], dtype=torch.int32)
        >>> field = receptive_field(SubMConv3d(2, 3, 3), SparseTensor(coords, torch.ones(3, 2)), 0)
        >>> field.reached.tolist()
        [True, True, False]
    """
    features = x.features.detach().clone().requires_grad_()
    with torch.enable_grad():
        y = layer(x.replace(features=features))
        row = _row(y, site)
        squares = torch.zeros(len(x), dtype=torch.float64, device=features.device)
        for channel in range(y.channels if y.features.requires_grad else 0):
            (grad,) = torch.autograd.grad(
                y.features[row, channel], features, retain_graph=True, allow_unused=True
            )
            if grad is not None:
                squares += grad.double().square().sum(1)
    item, *place = y.coords[row].tolist()
    # the middle of the output's voxel, in voxels of the input's lattice, coarser or finer
    steps = zip(place, y.stride, x.stride, strict=True)
    middle = [(p * out + (out - 1) // 2) // own for p, out, own in steps]
    return ReceptiveField(x.coords, squares.sqrt(), (item, *middle))


def _towards(
    points: np.ndarray, colours: np.ndarray, up: np.ndarray, size: tuple[int, int]
) -> Camera:
    """Return the camera that sees most of the site and of what is read."""
    first, second = horizontal_axes(up)
    small = (size[0] // 4, size[1] // 4)
    best, best_seen = None, -1
    for angle in np.arange(12) * (np.pi / 6) + np.pi / 12:
        ahead = np.cos(angle) * first + np.sin(angle) * second
        for elevation in np.radians([35.0, 55.0]):
            camera = aim(points, ahead, up, elevation, size)
            image, _ = raster.draw(points, colours, camera, small, point_size=3.0)
            red, _, blue = np.moveaxis(image.astype(np.int64), 2, 0)
            # the site first, then what is read strongly: all of a scan may be read weakly
            strong = (blue > red + 30) & (red < 70)
            seen = 100 * (red > blue + 60).sum() + strong.sum()
            if seen > best_seen:
                best, best_seen = camera, seen
    return best


def _row(y: SparseTensor, site: int | Sequence[int]) -> int:
    if isinstance(site, int):
        if not 0 <= site < len(y):
            raise ValueError(complain("site", f"a row of the {len(y)} outputs", repr(site)))
        return site
    wanted = torch.tensor([list(site)], dtype=torch.int32, device=y.device)
    if wanted.shape != (1, 4):
        raise ValueError(complain("site", "a row, or batch, x, y, z", repr(site)))
    row = int(y.lookup(wanted)[0])
    if row < 0:
        cure = "take one of its coords"
        raise ValueError(complain("site", "an active site of the output", repr(site), cure))
    return row
