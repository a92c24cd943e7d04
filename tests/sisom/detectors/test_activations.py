"""Reshaped activations by hand."""

import math

import pytest
import torch

from sisom import Head
from tests.support.detector_rows import energy, features, score


def test_reshaped_activations_by_hand():
    head = Head(torch.eye(4), torch.zeros(4))
    h = [[4.0, 3.0, 2.0, 1.0]]
    fit = features(h, [[0.0] * 4])
    row = features(h, [[0.0] * 4])
    clipped = [3.25, 3, 2, 1]  # the 75th percentile of 1, 2, 3, 4 is 3.25
    assert score("react", fit, [0], row, head=head, percentile=75.0) == pytest.approx([energy(clipped)])
    assert score("ash-b", fit, [0], row, head=head, percentile=50.0) == pytest.approx([energy([5, 5, 0, 0])])
    stretched = [value * math.exp(10 / 7) for value in h[0]]
    assert score("scale", fit, [0], row, head=head, percentile=50.0) == pytest.approx([energy(stretched)])
