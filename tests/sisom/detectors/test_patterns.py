"""SHE by hand."""

import torch

from sisom.detectors.patterns import SheDetector
from tests.support.detector_rows import features


def test_patterns_are_means_of_the_rows_that_are_predicted_correctly():
    fit = features([[1.0, 0.0], [3.0, 0.0], [0.0, 9.0]], [[2.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    detector = SheDetector()
    # Class 1 has no correct row and takes what it has; class 2 has no row at all.
    assert detector.fit(fit, torch.tensor([0, 0, 1])).tolist() == [[2.0, 0.0], [0.0, 9.0], [0.0, 0.0]]
    wrong = features([[1.0, 0.0], [3.0, 0.0]], [[2.0, 0.0], [0.0, 2.0]])
    assert detector.fit(wrong, torch.tensor([0, 0])).tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_the_score_is_the_product_with_the_predicted_classs_pattern():
    detector = SheDetector()
    state = torch.tensor([[2.0, 1.0], [0.0, 5.0]], dtype=torch.float64)
    rows = features([[3.0, 1.0], [3.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]])
    assert detector.score(state, rows).tolist() == [-7.0, -5.0]
