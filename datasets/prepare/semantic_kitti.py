"""Check a SemanticKITTI folder: python datasets/prepare/semantic_kitti.py FOLDER [--split train].

The data cannot be fetched by a program: its terms ask for a form. What to download, and the tree to
unpack it to, is in datasets/README.md.
"""

import argparse
import sys

import numpy as np

from sparseconv.datasets.labels import STREETS
from sparseconv.datasets.semantic_kitti import SemanticKitti


def main() -> int:
    """Print scans, points and share of each class; return 1 where a scan is damaged."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--split", default="all", help="train, val, test or all")
    arguments = parser.parse_args()
    try:
        scans = SemanticKitti(arguments.root, arguments.split)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    counts, bare, bad = np.zeros(256, np.int64), 0, []
    for row in range(len(scans)):
        try:
            cloud = scans[row]
        except ValueError as error:
            bad.append(str(error))
            continue
        bare += "label" not in cloud.attributes
        counts += np.bincount(cloud.attributes.get("label", np.zeros(0, int)), minlength=256)
    print(f"{len(scans)} scans, {bare} without labels, {len(bad)} damaged")
    for name, count in zip(
        (*STREETS.names, "ignored"), (*counts[: len(STREETS)], counts[255]), strict=True
    ):
        print(f"{name:12s} {count:12d}")
    print(*bad, sep="\n", file=sys.stderr)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
