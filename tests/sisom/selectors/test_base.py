"""Ranking by priority."""

import pytest
import torch

from sisom import errors
from sisom.selectors.base import top


def test_ties_go_to_the_lower_id():
    priority = torch.tensor([1.0, 2.0, 2.0, 2.0], dtype=torch.float64)
    assert top(["d", "c", "a", "b"], priority, 2).tolist() == [2, 3]


def test_priorities_that_cannot_rank():
    with pytest.raises(errors.NonFinite):
        top(["a"], torch.tensor([torch.nan], dtype=torch.float64), 1)
    with pytest.raises(errors.ShapeMismatch):
        top(["a", "b"], torch.zeros(1, dtype=torch.float64), 1)
    with pytest.raises(errors.BudgetTooLarge):
        top(["a"], torch.zeros(1, dtype=torch.float64), -1)
