"""The layers inside a net of your own, with ordinary torch modules, trained for a few steps."""

import argparse

import torch
from torch import nn

import sparseconv as sc
from sparseconv.datasets.procedural.room import generate_room


class OwnNet(nn.Module):
    """A two-level net: stem, down, up, skip, classifier."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.stem = sc.nn.Sequential(
            sc.nn.SubMConv3d(in_channels, 16, 3, bias=False), nn.BatchNorm1d(16), nn.ReLU()
        )
        self.down = sc.nn.Sequential(
            sc.nn.SparseConv3d(16, 32, 2, stride=2, bias=False), nn.LayerNorm(32), nn.GELU()
        )
        self.deep = sc.nn.Sequential(sc.nn.SubMConv3d(32, 32, 3), nn.ReLU(), nn.Dropout(0.1))
        self.up = sc.nn.SparseInverseConv3d(32, 16, 2)
        self.head = sc.nn.Linear(32, classes)

    def forward(self, x: sc.SparseTensor) -> sc.SparseTensor:
        """Return a logit per class for every voxel."""
        fine = self.stem(x)
        coarse = self.deep(self.down(fine))
        return self.head(sc.cat([fine, self.up(coarse)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    torch.manual_seed(0)

    cloud = generate_room(seed=0)
    x, to_voxel = sc.voxelize(cloud, 0.10, features=["one", "offset"])
    # every voxel takes the label of its last point
    labels = torch.zeros(len(x), dtype=torch.int64)
    labels[to_voxel] = torch.as_tensor(cloud.attributes["label"]).long()
    classes = int(labels.max()) + 1

    net = OwnNet(x.channels, classes)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for step in range(args.steps):
        loss = nn.functional.cross_entropy(net(x).features, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 5 == 0 or step == args.steps - 1:
            print(f"step {step:3d}  loss {loss.item():.3f}  ({len(x)} voxels, {classes} classes)")


if __name__ == "__main__":
    main()
