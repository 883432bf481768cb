"""Confusion matrix and IoU against numbers counted by hand."""

import numpy as np
import pytest

from sparseconv.tasks.metrics import accuracy, confusion, iou, mean_iou

TRUTH = np.array([0, 0, 0, 1, 1, 2, 255, -1])
FOUND = np.array([0, 0, 1, 1, 0, -1, 0, 1])


def test_confusion_counts_points_and_leaves_unlabelled_truth_out():
    expected = [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]]
    assert confusion(TRUTH, FOUND, 3).tolist() == expected


def test_iou_by_hand():
    matrix = confusion(TRUTH, FOUND, 3)
    # class 0: 2 hits, 3 true, 3 found; class 1: 1 hit, 2 true, 2 found; class 2: no hit, 1 true
    assert iou(matrix).tolist() == [2 / 4, 1 / 3, 0.0]
    assert mean_iou(matrix) == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
    assert accuracy(matrix) == 3 / 6


def test_a_class_that_does_not_occur_has_no_iou_and_does_not_count():
    matrix = confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)
    assert np.isnan(iou(matrix)[2])
    assert mean_iou(matrix) == 0.5
    # found where it does not occur: its IoU is 0, the mean is over the classes that are there
    wrong = confusion(np.array([0, 0]), np.array([0, 2]), 3)
    assert iou(wrong)[2] == 0
    assert mean_iou(wrong) == 0.5


def test_nothing_to_compare_is_not_a_number():
    empty = confusion(np.zeros(0, int), np.zeros(0, int), 2)
    assert np.isnan(mean_iou(empty))
    assert np.isnan(accuracy(empty))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="found: expected shape"):
        confusion(TRUTH, FOUND[:3], 3)
