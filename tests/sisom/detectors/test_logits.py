"""Detectors on logits by hand."""

import math

import pytest
import torch

from sisom import build_detector
from tests.support.detector_rows import features, score


def test_logits_by_hand():
    fit = features([[0.0], [0.0]], [[0.0, 0.0], [0.0, 0.0]])
    row = features([[0.0]], [[math.log(3.0), 0.0]])  # probabilities 3/4 and 1/4
    expected = {"msp": 0.25, "max-logit": -math.log(3), "energy": -math.log(4)}
    for name, value in expected.items():
        assert score(name, fit, [0, 1], row) == pytest.approx([value], rel=1e-6)
    assert score("gen", fit, [0, 1], row, gamma=0.5) == pytest.approx([2 * math.sqrt(3) / 4], rel=1e-6)
    assert score("grad-norm", fit, [0, 1], features([[2.0]], [[math.log(3.0), 0.0]])) == pytest.approx([-2.0])


def test_temperature_has_a_known_answer():
    """Three of four labels agree with a logit difference of two: the likeliest temperature makes that 3 to 1."""
    fit = features([[0.0]] * 4, [[2.0, 0.0]] * 4)
    detector = build_detector("temp-scale")
    assert detector.fit(fit, torch.tensor([0, 0, 0, 1])) == pytest.approx(2 / math.log(3), rel=1e-9)
    assert detector.fit(fit, torch.tensor([0, 0, 0, 0])) == pytest.approx(
        0.1
    )  # all right: as sure as allowed
    assert detector.fit(fit, torch.tensor([1, 1, 1, 1])) == pytest.approx(100.0)


def test_sure_rows_still_differ():
    """Both have a largest probability of exactly one in float64."""
    fit = features([[0.0]], [[0.0, 0.0]])
    rows = features([[0.0], [0.0]], [[40.0, 0.0], [50.0, 0.0]])
    sure, surer = score("msp", fit, [0], rows)
    assert sure > surer > 0
