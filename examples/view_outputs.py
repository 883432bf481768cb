"""Look at what a net makes of a scan: its sites and features, level by level, in Open3D."""

import argparse
from pathlib import Path

import numpy as np
import torch

import sparseconv as sc
from sparseconv._optional import require
from sparseconv.datasets.procedural.room import generate_room
from sparseconv.viz.snapshot import snapshot

VOXEL = 0.05


def as_cloud(x: sc.SparseTensor) -> sc.io.PointCloud:
    """Return the sites as points in metres, coloured by the directions features differ most in."""
    step = torch.tensor(x.stride) * VOXEL
    xyz = (x.coords[:, 1:] + 0.5) * step
    features = x.features.detach()
    features = features - features.mean(0)
    # a picture has three colours: the directions along which the features differ most
    _, _, directions = torch.linalg.svd(features, full_matrices=False)
    shown = features @ directions[:3].T
    low, high = shown.quantile(0.02, 0), shown.quantile(0.98, 0)
    rgb = ((shown - low) / (high - low).clamp(min=1e-9)).clamp(0, 1) * 255
    return sc.io.PointCloud(xyz.double().numpy(), {"rgb": rgb.numpy().astype(np.uint8)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("levels"), help="folder of the pictures")
    parser.add_argument("--view", action="store_true", help="open a window per level")
    args = parser.parse_args()
    torch.manual_seed(0)

    x, _ = sc.voxelize(generate_room(seed=4), VOXEL, features=["one", "offset"])
    levels = []
    net = sc.models.MinkUNetSmall(x.channels, 8).eval()
    for stage in [net.stem, *net.encode]:
        stage.register_forward_hook(lambda _module, _inputs, output: levels.append(output))
    with torch.no_grad():
        net(x)

    args.out.mkdir(parents=True, exist_ok=True)
    for number, level in enumerate(levels):
        cloud = as_cloud(level)
        path = args.out / f"level_{number}.png"
        snapshot(cloud, path, "rgb")
        print(
            f"stride {level.stride[0]:2d}: {len(level):6d} sites, {level.channels} channels: {path}"
        )
        if args.view:
            require("open3d", extra="io").visualization.draw_geometries([cloud.to_open3d()])


if __name__ == "__main__":
    main()
