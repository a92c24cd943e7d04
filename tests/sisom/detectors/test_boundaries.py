"""fDBD by hand."""

import pytest
import torch

from sisom import Head
from sisom.detectors.boundaries import FdbdDetector
from tests.support.detector_rows import features

HEAD = Head(torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]), torch.zeros(3))


def test_the_mean_distance_to_the_boundaries_over_that_to_the_mean():
    detector = FdbdDetector(HEAD)
    state = detector.fit(features([[0.0, 1.0], [2.0, 1.0]], [[0.0] * 3] * 2), torch.tensor([0, 1]))
    assert state.tolist() == [1.0, 1.0]
    # Logits 12, 4, 0: gaps of weights 5 and 3, so boundaries at 8/5 and 12/3; the mean row is 3 away.
    row = features([[4.0, 1.0]], [[12.0, 4.0, 0.0]])
    assert detector.score(state, row).tolist() == pytest.approx([-(8 / 5 + 4) / 2 / 3])


def test_two_classes_of_equal_weights_have_no_boundary():
    twins = FdbdDetector(Head(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.zeros(2)))
    fit = features([[0.0, 0.0]], [[0.0, 0.0]])
    assert twins.score(twins.fit(fit, torch.tensor([0])), features([[2.0, 0.0]], [[2.0, 2.0]])).tolist() == [
        0.0
    ]
