"""Uncertainty by hand."""

import math

import pytest
import torch

from sisom import SELECTORS
from tests.support.selector_rows import picks, rows


def test_uncertainty_by_hand():
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.45, 0.44, 0.11], [0.9, 0.05, 0.05], [0.4, 0.3, 0.3]])
    pool = rows(torch.zeros(4, 1), probabilities.log())
    one = {
        name: SELECTORS[name]().priority_of(pool, seed=0).tolist()
        for name in ("least-confidence", "margin", "entropy")
    }
    assert one["least-confidence"] == pytest.approx([0.5, 0.55, 0.1, 0.6], rel=1e-6)
    assert one["margin"] == pytest.approx([-0.25, -0.01, -0.85, -0.1], rel=1e-5)
    by_hand = [-sum(p * math.log(p) for p in row) for row in probabilities.tolist()]
    assert one["entropy"] == pytest.approx(by_hand, rel=1e-6)
    assert picks("margin", pool, k=2) == [1, 3]


def test_one_class_has_no_doubt():
    pool = rows(torch.zeros(3, 1), torch.zeros(3, 1))
    for name, value in {"least-confidence": 0.0, "margin": -1.0, "entropy": 0.0}.items():
        assert SELECTORS[name]().priority_of(pool, seed=0).tolist() == [value] * 3
