"""Queries that level the classes."""

import pytest
import torch

from sisom import SELECTORS, Labeled, class_balanced, errors
from tests.support.selector_rows import picks, rows


def test_class_balanced_by_hand():
    ids = ["a", "b", "c", "d", "e", "f"]
    priority = torch.tensor([9.0, 8.0, 7.0, 1.0, 0.5, 1.0])
    predicted = torch.tensor([0, 0, 0, 1, 1, 2])
    assert class_balanced(ids, priority, predicted, k=6).tolist() == [0, 3, 5, 1, 4, 2]
    assert class_balanced(ids, priority, predicted, k=3, labeled={0: 5}).tolist() == [3, 5, 4]
    with pytest.raises(errors.BudgetTooLarge):
        class_balanced(ids, priority, predicted, k=7)
    with pytest.raises(errors.ShapeMismatch):
        class_balanced(ids[:2], priority, predicted, k=1)


def test_class_balanced_wraps_any_ranking():
    logits = [[9.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 4.0], [0.0, 3.0]]
    pool = rows(torch.zeros(5, 1), logits)
    one = Labeled(None, torch.tensor([0, 0]), 2)
    balanced = {"of": SELECTORS["entropy"]()}
    assert SELECTORS["class-balanced"](**balanced).needs == {"features", "labeled"}
    assert SELECTORS["class-balanced"]().needs == {"scores", "labeled"}
    assert picks("class-balanced", pool, one, k=5, **balanced) == [4, 3, 1, 2, 0]
