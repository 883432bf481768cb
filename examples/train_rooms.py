"""Train the package's small net on procedural rooms; stop it and run it again, and it goes on."""

import argparse
from pathlib import Path

from sparseconv.datasets.procedural.room import generate_room
from sparseconv.tasks.segment import segment
from sparseconv.tasks.train import train


def show(stage: str, done: int, total: int) -> None:
    if done == total or done % 10 == 0:
        print(f"{stage}: {done} of {total}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("run"))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=2)
    args = parser.parse_args()

    best = train("rooms", args.out, steps=args.steps, batch=args.batch, progress=show)
    print(f"best weights: {best}; log: {args.out / 'log.csv'}")

    unseen = generate_room(seed=10**6)
    result = segment(unseen, best, up="z")
    right = (result.label == unseen.attributes["label"]).mean()
    print(f"points of an unseen room labelled right: {right:.1%}")


if __name__ == "__main__":
    main()
