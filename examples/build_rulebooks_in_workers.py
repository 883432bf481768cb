"""A loader whose workers build levels and rulebooks, so that the training process builds none."""

import argparse

import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import sparseconv as sc
from sparseconv.datasets.labels import ROOMS
from sparseconv.datasets.procedural.room import generate_room

CLASSES = len(ROOMS.names)


class Rooms(Dataset):
    """Voxelised rooms and the class of each voxel."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> tuple[sc.SparseTensor, torch.Tensor]:
        cloud = generate_room(seed=number)
        x, to_voxel = sc.voxelize(cloud, 0.10, features=["one", "offset"])
        labels = torch.zeros(len(x), dtype=torch.int64)
        labels[to_voxel] = torch.as_tensor(cloud.attributes["label"]).long()
        return x, labels


class Collate:
    """Join scans and build what the net needs of them; this runs in the worker."""

    def __init__(self, plan: sc.Plan) -> None:
        self.plan = plan

    def __call__(self, items: list) -> tuple[sc.SparseTensor, torch.Tensor]:
        """Return the batch, built, and the class of each of its voxels."""
        scans, labels = zip(*items, strict=True)
        return self.plan.build(sc.batch(scans)), torch.cat(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)

    rooms = Rooms(args.scans)
    net = sc.models.MinkUNet(4, CLASSES, channels=(8, 16, 24, 16, 8), blocks=1)
    # one pass over one scan tells which levels and rulebooks the net asks for
    plan = sc.plan(net, rooms[0][0])
    print(plan)
    loader = DataLoader(rooms, 2, num_workers=args.workers, collate_fn=Collate(plan))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    built = 0
    for step, (x, labels) in enumerate(loader):
        before = len(x.topology.rulebooks)
        loss = functional.cross_entropy(net(x).features, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        built += len(x.topology.rulebooks) - before
        print(
            f"step {step}  loss {loss.item():.3f}  {len(x)} voxels, {before} rulebooks came along"
        )
    print(f"rulebooks built while training: {built}")


if __name__ == "__main__":
    main()
