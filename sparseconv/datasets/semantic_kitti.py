"""SemanticKITTI: velodyne scans of 22 drives, a label for every point of the first eleven.

Source: Behley et al., SemanticKITTI, ICCV 2019; http://semantic-kitti.org (CC BY-NC-SA 4.0).
"""

from pathlib import Path

import numpy as np

from sparseconv._errors import complain
from sparseconv.datasets.base import existing_folder
from sparseconv.datasets.labels import STREETS, LabelTable, remap, semantickitti_to_streets
from sparseconv.io.point_cloud import PointCloud

SPLITS: dict[str, tuple[int, ...]] = {
    "train": (0, 1, 2, 3, 4, 5, 6, 7, 9, 10),
    "val": (8,),
    "test": (11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21),
}


def read_velodyne(path: Path) -> np.ndarray:
    """Return the rows x, y, z (metres), remission of a scan, float32 [N, 4].

    Raises:
        ValueError: the file is not a whole number of rows.
    """
    size = path.stat().st_size
    if size % 16:
        raise ValueError(complain(str(path), "a multiple of 16 bytes", f"{size} bytes"))
    return np.fromfile(path, "<f4").reshape(-1, 4)


def read_labels(path: Path, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return semantic id and instance id of each point, uint16 [N] each.

    Raises:
        ValueError: the file does not have one label per point.
    """
    size = path.stat().st_size
    if size != 4 * points:
        raise ValueError(complain(str(path), f"{4 * points} bytes, 4 per point", f"{size} bytes"))
    both = np.fromfile(path, "<u4")
    return (both & 0xFFFF).astype(np.uint16), (both >> 16).astype(np.uint16)


class SemanticKitti:
    """Map-style dataset of labelled scans.

    Args:
        root: folder that holds `sequences/`.
        split: "train", "val", "test", or "all" for every sequence that is there.
        raw: keep the raw ids in `label` instead of the classes of `STREETS`.

    Raises:
        FileNotFoundError: there is no scan of the split.
    """

    def __init__(self, root: str | Path | None, split: str = "train", *, raw: bool = False):
        root = existing_folder(root, "SemanticKITTI", "sequences/NN/velodyne/*.bin")
        if split not in (*SPLITS, "all"):
            names = ", ".join((*SPLITS, "all"))
            raise ValueError(complain("split", f"one of {names}", repr(split)))
        wanted = SPLITS.get(split, range(22))
        self.labels: LabelTable = STREETS
        self.raw = raw
        self.scans = [
            scan
            for sequence in wanted
            for scan in sorted((root / "sequences" / f"{sequence:02d}" / "velodyne").glob("*.bin"))
        ]
        if not self.scans:
            folders = ", ".join(f"{sequence:02d}" for sequence in wanted)
            raise FileNotFoundError(
                complain(
                    str(root / "sequences"),
                    f"scans of split {split} in {folders}",
                    "none",
                    "see datasets/README.md for how to get them",
                )
            )

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, item: int) -> PointCloud:
        path = self.scans[item]
        rows = read_velodyne(path)
        attributes = {"intensity": rows[:, 3].copy()}
        labels = path.parent.parent / "labels" / f"{path.stem}.label"
        if labels.exists():
            semantic, instance = read_labels(labels, len(rows))
            label = semantic if self.raw else remap(semantic, semantickitti_to_streets)
            attributes |= {"label": label.astype(np.int32), "instance": instance.astype(np.int32)}
        return PointCloud(rows[:, :3].astype(np.float64), attributes, {"source": str(path)})


def load(root: str | Path | None, split: str = "train", **options) -> SemanticKitti:
    """Return the dataset; see `SemanticKitti`."""
    return SemanticKitti(root, split, **options)
