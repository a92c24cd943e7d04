"""ViM by hand."""

import math

import pytest
import torch

from sisom import Head
from sisom.detectors.vim import Subspace, VimDetector
from tests.support.detector_rows import features


def test_a_residual_is_what_lies_outside():
    space = Subspace(torch.tensor([1.0, 0.0]).double(), torch.tensor([[0.0], [1.0]]).double())
    rows = torch.tensor([[9.0, 3.0], [1.0, -4.0]], dtype=torch.float64)
    assert space.residual(rows).tolist() == [3.0, 4.0]


def test_residuals_are_weighed_so_that_they_are_as_large_as_logits():
    head = Head(torch.eye(2), torch.zeros(2))
    # The first axis is the principal direction; residuals 1 and 1, largest logits 6 and 2: a weight of 4.
    fit = features(
        [[6.0, 1.0], [-6.0, 1.0], [6.0, -1.0], [-6.0, -1.0]], [[6.0, 1.0], [2.0, 1.0], [6.0, 0.0], [2.0, 0.0]]
    )
    detector = VimDetector(dim=1, head=head)
    state = detector.fit(fit, torch.tensor([0, 1, 0, 1]))
    found = detector.score(state, features([[5.0, 2.0]], [[math.log(2.0), math.log(2.0)]]))
    assert found.tolist() == pytest.approx([4 * 2 - math.log(4)])
