"""How well labels agree: confusion matrix and intersection over union."""

from __future__ import annotations

import numpy as np

from sparseconv._errors import complain


def confusion(
    truth: np.ndarray,  # [N]
    found: np.ndarray,  # [N]
    classes: int,
) -> np.ndarray:  # [n, n]
    """Count points by true class (row) and found class (column).

    Args:
        truth: int [N]; what lies outside 0 .. n - 1 is left out.
        found: int [N]; a point with a true class but no found class counts as wrong: it appears in
            the last column.
        classes: n.

    Returns:
        int64 [n, n + 1]; column n holds the points that got no class.

    Raises:
        ValueError: the lengths differ.
    """
    truth, found = np.asarray(truth), np.asarray(found)
    if truth.shape != found.shape or truth.ndim != 1:
        raise ValueError(complain("found", f"shape {list(truth.shape)}", list(found.shape)))
    known = (truth >= 0) & (truth < classes)
    rows = truth[known].astype(np.int64)
    columns = found[known].astype(np.int64)
    columns = np.where((columns >= 0) & (columns < classes), columns, classes)
    flat = np.bincount(rows * (classes + 1) + columns, minlength=classes * (classes + 1))
    return flat.reshape(classes, classes + 1)


def iou(
    matrix: np.ndarray,  # [n, n + 1]
) -> np.ndarray:  # [n]
    """Return `hits / (true + found - hits)` per class; NaN where a class is neither."""
    matrix = np.asarray(matrix)
    classes = len(matrix)
    hits = np.diagonal(matrix).astype(np.float64)
    either = matrix.sum(1) + matrix[:, :classes].sum(0) - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(either > 0, hits / either, np.nan)


def mean_iou(matrix: np.ndarray) -> float:
    """Return the mean IoU of the classes that truly occur; NaN where none does."""
    matrix = np.asarray(matrix)
    occurs = matrix.sum(1) > 0
    return float(iou(matrix)[occurs].mean()) if occurs.any() else float("nan")


def accuracy(matrix: np.ndarray) -> float:
    """Return the share of points whose class is right; NaN where there are none."""
    total = np.asarray(matrix).sum()
    return float(np.diagonal(matrix).sum() / total) if total else float("nan")
