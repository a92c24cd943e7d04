"""Gaussians by hand: one covariance, and directions without any variance."""

import pytest
import torch

from sisom.detectors.gaussians import Gaussians, MahalanobisDetector, RelativeMahalanobisDetector
from tests.support.detector_rows import features

# Means (0, 0) and (4, 0); variances 1 and 4 around them.
ROWS = [[-1.0, 2.0], [1.0, -2.0], [3.0, -2.0], [5.0, 2.0]]
LABELS = torch.tensor([0, 0, 1, 1])


def test_distances_to_the_nearest_mean_in_standard_deviations():
    rows = torch.tensor([[0.0, 0.0], [-1.0, 4.0], [7.0, 0.0]], dtype=torch.float64)
    # The shared covariance is diagonal: products of the classes' deviations cancel.
    assert Gaussians.of(torch.tensor(ROWS), LABELS).nearest(rows).tolist() == pytest.approx(
        [0.0, 5.0, 9.0], abs=1e-9
    )


def test_a_direction_in_which_nothing_varies_is_not_counted():
    flat = Gaussians.of(torch.tensor([[-1.0, 7.0], [1.0, 7.0]]), torch.tensor([0, 0]))
    assert flat.whitening.shape == (2, 1)
    assert flat.nearest(torch.tensor([[2.0, 900.0]], dtype=torch.float64)).tolist() == pytest.approx([4.0])


def test_the_relative_distance_is_less_that_to_all_rows():
    detector, plain = RelativeMahalanobisDetector(), MahalanobisDetector()
    fit, row = features(ROWS), features([[7.0, 0.0]])
    # Of all rows: mean (2, 0), variance 5 in the first column, so (7 - 2)^2 / 5 = 5.
    assert plain.score(plain.fit(fit, LABELS), row).tolist() == pytest.approx([9.0])
    assert detector.score(detector.fit(fit, LABELS), row).tolist() == pytest.approx([9.0 - 5.0])
