"""The protocol of datasets, and their discovery: a file in this folder with a `load` is one."""

import importlib
import importlib.util
import pkgutil
from pathlib import Path
from typing import Protocol, runtime_checkable

from sparseconv._errors import complain
from sparseconv.datasets.labels import LabelTable
from sparseconv.io.point_cloud import PointCloud

# files of this folder that hold no dataset
_SUPPORT = {"base", "labels"}


@runtime_checkable
class Dataset(Protocol):
    """Labelled scans by number: what `torch.utils.data.DataLoader` calls a map-style dataset.

    `labels` is the class table; each cloud carries `label` int32 [N] with its classes, or
    `labels.ignore`.
    """

    labels: LabelTable

    def __len__(self) -> int:
        """Return the number of scans."""

    def __getitem__(self, item: int) -> PointCloud:
        """Return scan number `item`."""


def available() -> tuple[str, ...]:
    """Return the names of all datasets, sorted.

    Example:
        >>> "rooms" in available()
        True
    """
    here = Path(__file__).parent
    return tuple(
        sorted(
            module.name
            for module in pkgutil.iter_modules([str(here)])
            if not module.ispkg and module.name not in _SUPPORT
        )
    )


def load(name: str, root: str | Path | None = None, split: str = "train", **options) -> Dataset:
    """Open a dataset by name.

    Args:
        name: one of `available()`.
        root: folder of the data; procedural datasets need none.
        split: "train", "val" or "test".
        options: further arguments of the dataset.

    Returns:
        The dataset.

    Raises:
        ValueError: the name or the split is unknown.
        FileNotFoundError: the root or the files expected in it are missing.
    """
    if name not in available():
        raise ValueError(complain("dataset", f"one of {', '.join(available())}", repr(name)))
    module = importlib.import_module(f"sparseconv.datasets.{name}")
    return module.load(root, split, **options)


def existing_folder(root: str | Path | None, dataset: str, contents: str) -> Path:
    """Return `root` as a path, or say what the folder of `dataset` must contain.

    Raises:
        FileNotFoundError: no root was given, or it is not a folder.
    """
    if root is None:
        raise FileNotFoundError(
            complain("root", f"the folder of {dataset} ({contents})", "none", "pass root=")
        )
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(complain("root", f"a folder with {contents}", str(root)))
    return root
