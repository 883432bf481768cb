"""A folder of labelled scans in any format that can be read."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sparseconv._errors import complain
from sparseconv.datasets.base import existing_folder
from sparseconv.datasets.labels import IGNORE, LabelTable, remap
from sparseconv.io.point_cloud import PointCloud

TABLE_FILE = "classes.json"
SPLITS = ("train", "val", "test")
# the golden angle spreads any number of hues
_HUE = 0.61803398875


def spread_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return `count` well-separated colours, three numbers in 0..255 each."""
    hue = (np.arange(count) * _HUE % 1.0)[:, None]
    wave = np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    rgb = (0.25 + 0.7 * wave.clip(0, 1)) * 255
    return tuple((int(r), int(g), int(b)) for r, g, b in rgb)


def read_table(path: Path) -> tuple[LabelTable, dict[int, int]]:
    """Read a class table: {"names": [...], "palette": [[r, g, b], ...], "ids": {"raw": class}}.

    Args:
        path: a JSON file; `palette`, `ids` and `ignore` may be missing. Without `ids` the labels
            in the files are the classes.

    Returns:
        The table, and raw id to class.

    Raises:
        ValueError: the file is not JSON, or names, palette and ids do not agree.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(complain(str(path), "JSON", str(error))) from error
    names = given.get("names") if isinstance(given, Mapping) else None
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(complain(str(path), 'a list of class names under "names"', repr(names)))
    palette = given.get("palette") or spread_palette(len(names))
    if len(palette) != len(names) or any(len(colour) != 3 for colour in palette):
        raise ValueError(complain(str(path), f"{len(names)} colours", f"{len(palette)}"))
    ids = given.get("ids") or {row: row for row in range(len(names))}
    ids = {int(raw): int(kind) for raw, kind in ids.items()}
    ignore = int(given.get("ignore", IGNORE))
    wrong = [kind for kind in ids.values() if kind != ignore and not 0 <= kind < len(names)]
    if wrong:
        raise ValueError(complain(f"{path} ids", f"classes 0 to {len(names) - 1}", f"{wrong[0]}"))
    colours = tuple(tuple(int(c) for c in colour) for colour in palette)
    return LabelTable(path.parent.name, tuple(names), colours, ignore), ids


class Folder:
    """Map-style dataset of every readable scan in a folder.

    The label of a scan is its attribute `label`, else `classification` (LAS), else `segment`,
    `semantic` or `class`. Where a file `classes.json` lies in the folder, or `table` is given, it
    names the classes and maps raw ids; else all files are read once to number the ids found.

    Args:
        root: the folder; a sub-folder of the split's name is used where there is one.
        split: "train", "val" or "test"; without sub-folders every fifth file is val and test.
        table: path of a class table in JSON.

    Raises:
        FileNotFoundError: no readable scan is there.
        ValueError: a scan has no label.
    """

    NAMES = ("label", "classification", "segment", "semantic", "class")

    def __init__(
        self, root: str | Path | None, split: str = "train", *, table: str | Path | None = None
    ):
        root = existing_folder(root, "labelled scans", "scans in a readable format")
        if split not in (*SPLITS, "all"):
            names = ", ".join((*SPLITS, "all"))
            raise ValueError(complain("split", f"one of {names}", repr(split)))
        self.scans = self._scans(root, split)
        path = Path(table) if table else root / TABLE_FILE
        if table and not path.is_file():
            raise FileNotFoundError(complain("table", "a JSON file", str(path)))
        if path.is_file():
            self.labels, self.ids = read_table(path)
        else:
            self.labels, self.ids = self._found_table(root)

    @staticmethod
    def _scans(root: Path, split: str) -> list[Path]:
        from sparseconv.io.registry import readable_suffixes

        suffixes = tuple(s.lower() for s in readable_suffixes())
        own = root / split
        folder = own if split != "all" and own.is_dir() else root
        deep = folder == own or split == "all"
        walk = folder.rglob("*") if deep else folder.iterdir()
        scans = sorted(p for p in walk if p.is_file() and p.name.lower().endswith(suffixes))
        if not scans:
            wanted = f"scans with a suffix of {' '.join(sorted(suffixes))}"
            raise FileNotFoundError(complain(str(folder), wanted, "none"))
        if deep or len(scans) < 2:
            return scans
        held = scans[::5]
        return held if split != "train" else [p for p in scans if p not in held]

    def _raw(self, path: Path) -> tuple[PointCloud, np.ndarray]:
        from sparseconv.io.registry import read

        cloud = read(path)
        for name in self.NAMES:
            if name in cloud.attributes:
                values = cloud.attributes[name]
                whole = values.ndim == 1 and np.array_equal(values, np.rint(values))
                if not whole:
                    raise ValueError(complain(f"{path} {name}", "whole numbers [N]", values.dtype))
                return cloud, values.astype(np.int64)
        raise ValueError(
            complain(
                str(path),
                f"an attribute {' or '.join(self.NAMES)}",
                ", ".join(cloud.attributes) or "no attributes",
                "label the scan or take it out of the folder",
            )
        )

    def _found_table(self, root: Path) -> tuple[LabelTable, dict[int, int]]:
        found = sorted({int(i) for path in self.scans for i in np.unique(self._raw(path)[1])})
        names = tuple(f"class {raw}" for raw in found)
        ids = {raw: row for row, raw in enumerate(found)}
        return LabelTable(root.name, names, spread_palette(len(found))), ids

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, item: int) -> PointCloud:
        cloud, raw = self._raw(self.scans[item])
        return cloud.with_attributes(label=remap(raw, self.ids, self.labels.ignore))


def load(root: str | Path | None, split: str = "train", **options) -> Folder:
    """Return the dataset; see `Folder`."""
    return Folder(root, split, **options)
