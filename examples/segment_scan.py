"""A raw scan in, a labelled cloud and a picture out, in a script."""

import argparse
from pathlib import Path

import numpy as np

import sparseconv as sc
from sparseconv.tasks.choose import choose_model
from sparseconv.tasks.segment import segment
from sparseconv.viz.snapshot import snapshot
from sparseconv.viz.view import view

SAMPLE = Path(__file__).parent.parent / "datasets" / "samples" / "room.ply"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--out", type=Path, default=Path("labelled.ply"))
    parser.add_argument("--snapshot", type=Path, help="write a picture (no display needed)")
    parser.add_argument("--view", action="store_true", help="open a window")
    args = parser.parse_args()

    cloud = sc.io.read(args.scan)
    model, reason = choose_model(cloud, args.scan)
    print(f"{len(cloud)} points; model {model}: {reason}")

    result = segment(cloud, model)
    labelled = cloud.with_attributes(label=result.label, confidence=result.confidence)
    sc.io.write(args.out, labelled)
    print(f"written: {args.out}")
    for number, name in enumerate(result.classes.names):
        print(f"  {name:12s} {np.mean(result.label == number):6.1%}")

    if args.snapshot:
        snapshot(labelled, args.snapshot, "label", result.classes, up=result.up)
        print(f"written: {args.snapshot}")
    if args.view:
        view(labelled, result.classes)


if __name__ == "__main__":
    main()
