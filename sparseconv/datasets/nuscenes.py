"""nuScenes: key-frame sweeps of a 32-beam LiDAR, labels from the lidarseg extension.

Source: Caesar et al., nuScenes, CVPR 2020; https://www.nuscenes.org (non-commercial terms).
"""

import json
from pathlib import Path

import numpy as np

from sparseconv._errors import complain
from sparseconv.datasets.base import existing_folder
from sparseconv.datasets.labels import STREETS, LabelTable, nuscenes_to_streets, remap
from sparseconv.io.point_cloud import PointCloud


class NuScenes:
    """Map-style dataset of LIDAR_TOP key frames; unlabelled where lidarseg is not there.

    Args:
        root: folder that holds `samples/LIDAR_TOP/` and, for labels, `lidarseg/<version>/` and
            `<version>/lidarseg.json`.
        version: "v1.0-mini", "v1.0-trainval" or "v1.0-test".

    Raises:
        FileNotFoundError: there is no sweep.
    """

    def __init__(self, root: str | Path | None, version: str = "v1.0-mini"):
        root = existing_folder(root, "nuScenes", "samples/LIDAR_TOP/*.pcd.bin")
        self.labels: LabelTable = STREETS
        self.scans = sorted((root / "samples" / "LIDAR_TOP").glob("*.pcd.bin"))
        if not self.scans:
            raise FileNotFoundError(
                complain(str(root / "samples" / "LIDAR_TOP"), "sweeps *.pcd.bin", "none")
            )
        self.label_of = self._label_files(root, version)

    @staticmethod
    def _label_files(root: Path, version: str) -> dict[str, Path]:
        rows, data = root / version / "lidarseg.json", root / version / "sample_data.json"
        if not (rows.is_file() and data.is_file()):
            return {}
        names = {row["token"]: Path(row["filename"]).name for row in json.loads(data.read_text())}
        return {
            names[row["sample_data_token"]]: root / row["filename"]
            for row in json.loads(rows.read_text())
            if row["sample_data_token"] in names
        }

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, item: int) -> PointCloud:
        path = self.scans[item]
        size = path.stat().st_size
        if size % 20:
            raise ValueError(complain(str(path), "a multiple of 20 bytes", f"{size} bytes"))
        rows = np.fromfile(path, "<f4").reshape(-1, 5)
        attributes = {"intensity": rows[:, 3] / 255, "ring": rows[:, 4].astype(np.int32)}
        labels = self.label_of.get(path.name)
        if labels:
            raw = np.fromfile(labels, np.uint8)
            if len(raw) != len(rows):
                raise ValueError(complain(str(labels), f"{len(rows)} labels", f"{len(raw)}"))
            attributes["label"] = remap(raw, nuscenes_to_streets)
        return PointCloud(rows[:, :3].astype(np.float64), attributes, {"source": str(path)})


def load(root: str | Path | None, split: str = "train", **options) -> NuScenes:
    """Return all key frames under `root`; splits are scene lists that the devkit owns.

    Raises:
        ValueError: the split is not "all" or "train".
    """
    if split not in ("all", "train"):
        raise ValueError(complain("split", "all or train: every key frame", repr(split)))
    return NuScenes(root, **options)
