"""The rules of open sets: known classes, the far filter, precision and recall."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.studies.active.config import OpenSet
from pipeline.studies.active.open_set import accuracy, known_classes, passing, query_measures
from sisom.verdicts import far_filter


def test_a_class_is_known_when_enough_of_it_is_labeled() -> None:
    rules = OpenSet(known=0.5, promote=3)
    labeled = np.asarray([0, 1, 2, 2, 3, 3, 3, -1, -1, -1], np.int64)
    assert known_classes(labeled, 4, rules=rules).tolist() == [0, 1, 3]
    assert known_classes(labeled[:6], 4, rules=rules).tolist() == [0, 1]
    assert known_classes(labeled, 4, rules=None).tolist() == [0, 1, 2, 3]


def test_nobody_is_right_on_a_class_that_is_not_known() -> None:
    truth = np.asarray([0, 0, 1, 1, 2, 2], np.int64)
    predicted = np.asarray([0, 1, 1, 1, 0, 1], np.int64)
    assert accuracy(predicted, truth, np.asarray([0, 1]), classes=3) == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert accuracy(truth, truth, np.asarray([0, 1]), classes=4) == pytest.approx(0.5)


def test_the_filter_cuts_where_the_labeled_far_images_stand_apart() -> None:
    energy = np.asarray([-11.0, -10.0, -9.0, -8.0, -7.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0])
    far = energy >= -2.0
    limit, _ = far_filter(energy[far], energy[~far])
    assert limit == -2.0
    assert passing(np.asarray([-5.0, -2.0, 0.0]), limit, 1).tolist() == [True, False, False]
    assert passing(np.asarray([-1.0, -2.0, 0.0]), limit, 2).tolist() == [True, True, False]
    nothing, _ = far_filter(energy[:0], energy)  # no far image is labeled yet
    assert nothing is None
    assert passing(energy, nothing, 1).all()


def test_precision_and_recall_of_a_query_by_hand() -> None:
    pool = np.asarray([0] * 6 + [1] * 4 + [-1] * 5, np.int64)
    found = query_measures(np.asarray([0, 1, -1, -1]), np.asarray([0, 0, -1]), pool)
    assert found == {"precision": 0.5, "recall": 0.4}
