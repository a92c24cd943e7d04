"""DICE and GradNorm by hand."""

import math

import pytest
import torch

from sisom import Head, errors
from sisom.detectors.weights import DiceDetector, GradNormDetector
from tests.support.detector_rows import features


def test_dice_keeps_the_weights_that_contribute_most():
    head = Head(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0.5, 0.0]))
    detector = DiceDetector(percentile=50.0, head=head)
    # Mean features 2 and 1: contributions 2, 2, 6, 4, of which the median is 3.
    state = detector.fit(features([[1.0, 1.0], [3.0, 1.0]]), torch.tensor([0, 1]))
    assert state.weight.tolist() == [[0.0, 0.0], [3.0, 4.0]]
    found = detector.score(state, features([[1.0, 0.0]]))
    assert found.tolist() == pytest.approx([-math.log(math.exp(0.5) + math.exp(3.0))])


@pytest.mark.parametrize("percentile", [-1.0, 100.0])
def test_a_percentile_that_keeps_nothing_is_refused(percentile):
    with pytest.raises(errors.InputError, match="must lie in"):
        DiceDetector(percentile=percentile)


def test_the_norm_of_the_gradient_is_that_of_backward():
    weight = torch.tensor([[1.0, -2.0], [0.5, 1.0], [0.0, 3.0]], dtype=torch.float64, requires_grad=True)
    h = torch.tensor([2.0, 1.0], dtype=torch.float64)
    logits = weight @ h
    (-torch.log_softmax(logits, 0)).sum().backward()
    detector = GradNormDetector()
    found = detector.score((), features([h.tolist()], [logits.tolist()]))
    assert found.tolist() == pytest.approx([-float(weight.grad.abs().sum())], rel=1e-6)
