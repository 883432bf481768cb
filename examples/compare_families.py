"""Train the package's small net on procedural rooms with eight families of convolutions, in turn.

All get the same scenes, steps and learning rate. Stop it and run it again, and it goes on.
"""

import argparse
import csv
from pathlib import Path

import torch

from sparseconv.tasks.checkpoint import load_checkpoint
from sparseconv.tasks.train import train

EIGHT = (
    "submanifold",
    "depthwise_separable",
    "mix",
    "octave",
    "involution",
    "local_relation",
    "cond",
    "dcnv4",
)


def show(family: str):
    def progress(stage: str, done: int, total: int) -> None:
        if done == total or done % 10 == 0:
            print(f"{family}: {done} of {total} steps", flush=True)

    return progress


def result(folder: Path) -> tuple[float, float]:
    """Return the best validation mIoU, and seconds a step with everything in it."""
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    best = max(float(row["validation_miou"]) for row in rows if row["validation_miou"])
    return best, float(rows[-1]["seconds"]) / int(rows[-1]["step"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("families"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--families", nargs="+", default=EIGHT, metavar="NAME")
    args = parser.parse_args()

    lines = []
    for family in args.families:
        folder = args.out / family
        best = train(
            "rooms",
            folder,
            steps=args.steps,
            batch=args.batch,
            conv=family,
            progress=show(family),
        )
        network, _, _ = load_checkpoint(best)
        parameters = sum(p.numel() for p in network.parameters())
        score, seconds = result(folder)
        lines.append(f"{family:22}{score:8.3f}{parameters:14,}{seconds:12.2f}")
    print(f"\n{'family':22}{'mIoU':>8}{'parameters':>14}{'s a step':>12}")
    print("\n".join(lines))
    print(f"{args.steps} steps of {args.batch} rooms, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
