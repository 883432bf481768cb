"""Look at what a trained net makes of a scan: its sites and features, level by level.

Writes a picture per level and, where there is a display, opens an Open3D window for each.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import sparseconv as sc
from sparseconv.datasets.procedural.room import generate_room
from sparseconv.tasks.checkpoint import load_checkpoint
from sparseconv.tasks.inputs import network_input, point_columns
from sparseconv.viz.snapshot import snapshot
from sparseconv.viz.view import has_display, view


def as_cloud(x: sc.SparseTensor, voxel: float) -> sc.io.PointCloud:
    """Return the sites as points in metres, coloured by the directions features differ most in."""
    xyz = (x.coords[:, 1:] + 0.5) * torch.tensor(x.stride) * voxel
    features = x.features - x.features.mean(0)
    _, _, directions = torch.linalg.svd(features, full_matrices=False)
    shown = features @ directions[:3].T
    low, high = shown.quantile(0.02, 0), shown.quantile(0.98, 0)
    rgb = ((shown - low) / (high - low).clamp(min=1e-9)).clamp(0, 1) * 255
    return sc.io.PointCloud(xyz.double().numpy(), {"rgb": rgb.numpy().astype(np.uint8)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", nargs="?", type=Path, help="an indoor scan with z up")
    parser.add_argument("--out", type=Path, default=Path("levels"), help="folder of the pictures")
    parser.add_argument("--no-window", action="store_true", help="pictures alone")
    args = parser.parse_args()

    cloud = sc.io.read(args.scan) if args.scan else generate_room(seed=4)
    net, recipe, _ = load_checkpoint("rooms")
    x, _, _ = network_input([cloud.xyz], [point_columns(cloud.xyz, recipe)], recipe)
    outputs = []
    for stage in [net.stem, *net.encode, *net.decode]:
        stage.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.no_grad():
        net(x)

    args.out.mkdir(parents=True, exist_ok=True)
    for number, output in enumerate(outputs):
        shape = f"{len(output):6d} sites, {output.channels} channels"
        print(f"output {number}: stride {output.stride[0]:2d}, {shape}")
        picture = as_cloud(output, recipe.voxel)
        snapshot(picture, args.out / f"output_{number}.png", "rgb")
        if has_display() and not args.no_window:
            view(picture, title=f"output {number}, stride {output.stride[0]}")


if __name__ == "__main__":
    main()
