"""Distances by hand."""

import math

import pytest

from tests.support.detector_rows import features, score


def test_distances_by_hand():
    fit = features([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    row = features([[5.0, 0.0], [0.0, 0.0]])
    assert score("knn", fit, [0, 0, 1], row, k=1) == [0.0, 1.0]  # a row of zeros stays where it is
    assert score("knn", fit, [0, 0, 1], row, k=3) == pytest.approx([math.sqrt(2), 1.0])
    assert score("knn", fit, [0, 0, 1], row, k=9) == pytest.approx([math.sqrt(2), 1.0])
    # Means (0, 0) and (4, 0), shared variances 1 and 4.
    gaussians = features([[-1.0, 2.0], [1.0, -2.0], [3.0, -2.0], [5.0, 2.0]])
    labels, rows = [0, 0, 1, 1], features([[2.0, 0.0], [4.0, 6.0]])
    assert score("mahalanobis", gaussians, labels, rows) == pytest.approx([4.0, 9.0])
    # All together: mean (2, 0), variances 5 and 4.
    assert score("relative-mahalanobis", gaussians, labels, rows) == pytest.approx(
        [4.0, 9 - 0.8 - 9], abs=1e-5
    )
